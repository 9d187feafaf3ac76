//! The reading half: a handle on a member of a group, which lives on a thread of its own.

use std::{
    sync::mpsc::{self, Sender},
    thread,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    member::{Member, Order},
    settings::KafkaSettings,
};
use crate::bus::{Batch, LogError, Position, Reader};

/// How much later than it should an answer may come before the member counts as stuck.
const GRACE: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct KafkaReader {
    orders: Sender<Order>,
    /// The batch that was asked for by somebody who did not wait for it.
    asked: Option<oneshot::Receiver<Result<Option<Batch>, LogError>>>,
    ended: oneshot::Receiver<()>,
    patience: Duration,
}

/// Joins the group. The brokers are asked for partitions in the background.
pub(super) async fn join(settings: &KafkaSettings, group: String, topic: String) -> Result<KafkaReader, LogError> {
    let (settings, patience) = (settings.clone(), settings.timeout());
    let (orders, taken) = mpsc::channel();
    let (joining, joined) = oneshot::channel();
    let (ending, ended) = oneshot::channel();
    let member = move || {
        match Member::join(&settings, &group, &topic) {
            Ok(member) => {
                if joining.send(Ok(())).is_ok() {
                    member.obey(&taken);
                }
            }
            Err(error) => drop(joining.send(Err(error))),
        }
        let _ = ending.send(());
    };
    let spawned = thread::Builder::new().name("kafka-reader".into()).spawn(member);
    spawned.map_err(|error| LogError::Unavailable(format!("no thread to read on: {error}")))?;
    match timeout(patience + GRACE, joined).await {
        Ok(Ok(joined)) => joined.map(|()| KafkaReader { orders, asked: None, ended, patience }),
        _ => Err(LogError::Unavailable("the library does not answer".into())),
    }
}

impl KafkaReader {
    /// Gives back what was read for somebody who did not wait for it.
    fn put_back(&mut self) {
        if let Some(mut asked) = self.asked.take() {
            asked.close();
            if let Ok(Ok(Some(batch))) = asked.try_recv() {
                let _ = self.orders.send(Order::PutBack(batch));
            }
        }
    }

    async fn ask(
        &mut self,
        order: impl FnOnce(oneshot::Sender<Result<(), LogError>>) -> Order + Send,
    ) -> Result<(), LogError> {
        self.put_back();
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).map_err(|_| gone())?;
        timeout(self.patience + GRACE, answered).await.map_err(|_| stuck())?.map_err(|_| gone())?
    }

    async fn next_batch(&mut self, limit: usize, within: Duration) -> Result<Option<Batch>, LogError> {
        self.put_back();
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order::Next { limit: limit.max(1), within, answer }).map_err(|_| gone())?;
        let asked = self.asked.insert(answered);
        let batch = timeout(within + GRACE, asked).await.map_err(|_| stuck())?;
        self.asked = None;
        batch.map_err(|_| gone())?
    }
}

impl Reader for KafkaReader {
    fn next(&mut self, limit: usize, within: Duration) -> BoxFuture<'_, Result<Option<Batch>, LogError>> {
        Box::pin(self.next_batch(limit, within))
    }

    fn seek(&mut self, at: Position) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(self.ask(move |answer| Order::Seek { at, answer }))
    }

    fn commit(&mut self, next: Position) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(self.ask(move |answer| Order::Commit { next, answer }))
    }

    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        let Self { orders, ended, patience, .. } = *self;
        drop(orders);
        Box::pin(async move {
            // Without a broker nobody hears it, and the session ends by itself.
            tokio::select! { _ = ended => {} () = sleep(patience) => {} }
        })
    }
}

fn gone() -> LogError {
    LogError::Unavailable("the reader's thread has ended".into())
}

fn stuck() -> LogError {
    LogError::Unavailable("the reader's thread does not answer".into())
}
