//! One connection through the proxy: two pumps, one a direction.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::frames::{Conversation, Cutter, Message, Phase, Protocol};
use super::{Direction, Moment, Order, Shared, connect};
use crate::lock::locked;

/// Carries one client's bytes until either side closes.
pub(super) async fn run(
    shared: Arc<Shared>,
    client: TcpStream,
    mut orders: UnboundedReceiver<Order>,
) -> io::Result<()> {
    let mut client = Client { socket: client, orderly: false };
    let mut service = connect(&shared.target).await?;
    let talk = Mutex::new(Conversation::default());
    let (client_read, client_write) = client.socket.split();
    let (service_read, service_write) = service.split();
    let (to_up, up_orders) = mpsc::unbounded_channel();
    let (to_down, down_orders) = mpsc::unbounded_channel();
    let pump = |direction, read, write, rubbish| Pump {
        shared: &shared,
        talk: &talk,
        direction,
        read,
        write,
        rubbish,
        cutter: Cutter::default(),
    };
    let up = pump(Direction::Up, client_read, service_write, up_orders);
    let down = pump(Direction::Down, service_read, client_write, down_orders);
    let dispatch = async {
        while let Some(Order::Spoil(direction, rubbish)) = orders.recv().await {
            let to = if direction == Direction::Up { &to_up } else { &to_down };
            let _ = to.send(rubbish);
        }
        // The proxy has forgotten this link; it goes on until a side closes.
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = up.run() => outcome,
        outcome = down.run() => outcome,
        () = dispatch => Ok(()),
    };
    client.orderly = outcome.is_ok();
    outcome
}

/// The client's socket. However its link is ended, also from outside, the client sees a reset: a service that says goodbye in
/// order is the one exception.
struct Client {
    socket: TcpStream,
    orderly: bool,
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.orderly {
            let _ = self.socket.set_zero_linger();
        }
    }
}

struct Pump<'a> {
    shared: &'a Shared,
    talk: &'a Mutex<Conversation>,
    direction: Direction,
    read: ReadHalf<'a>,
    write: WriteHalf<'a>,
    rubbish: UnboundedReceiver<Vec<u8>>,
    cutter: Cutter,
}

impl Pump<'_> {
    async fn run(mut self) -> io::Result<()> {
        let mut piece = vec![0; 64 * 1024];
        loop {
            let length = tokio::select! {
                read = self.read.read(&mut piece) => read?,
                Some(rubbish) = self.rubbish.recv() => {
                    self.write.write_all(&rubbish).await?;
                    continue;
                }
            };
            if length == 0 {
                return Ok(());
            }
            self.hold().await;
            match self.shared.protocol {
                Protocol::Bytes => self.write.write_all(&piece[..length]).await?,
                Protocol::Postgres => self.pass_messages(&piece[..length]).await?,
            }
        }
    }

    /// Waits out a stall and a delay.
    async fn hold(&self) {
        let mut flow = self.shared.flow(self.direction).subscribe();
        let delay = match flow.wait_for(|flow| !flow.stalled).await {
            Ok(flow) => flow.delay,
            Err(_) => return,
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    async fn pass_messages(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.cutter.feed(bytes);
        loop {
            if locked(self.talk).phase == Phase::Opaque {
                let rest = self.cutter.rest();
                return self.write.write_all(&rest).await;
            }
            let more = match self.direction {
                Direction::Up => self.pass_up().await?,
                Direction::Down => self.pass_down().await?,
            };
            if !more {
                return Ok(());
            }
        }
    }

    async fn pass_up(&mut self) -> io::Result<bool> {
        let started = locked(self.talk).phase == Phase::Started;
        let Some(message) = self.cutter.next(started) else {
            return Ok(false);
        };
        if started {
            let batch = locked(self.talk).asked(&message);
            let trap = batch.and_then(|batch| self.shared.sprung_by(Moment::BeforeCommit, &batch));
            self.pass_or_spring(message, trap).await?;
        } else {
            locked(self.talk).opening(&message);
            self.write.write_all(&message.bytes).await?;
        }
        Ok(true)
    }

    async fn pass_down(&mut self) -> io::Result<bool> {
        if locked(self.talk).phase == Phase::AskedEncryption {
            let Some(answer) = self.cutter.next_byte() else {
                return Ok(false);
            };
            locked(self.talk).encryption(answer);
            self.write.write_all(&[answer]).await?;
            return Ok(true);
        }
        let Some(message) = self.cutter.next(true) else {
            return Ok(false);
        };
        let batch = locked(self.talk).replied(&message);
        let trap = batch.and_then(|batch| self.shared.sprung_by(Moment::AfterCommit, &batch));
        self.pass_or_spring(message, trap).await?;
        Ok(true)
    }

    async fn pass_or_spring(&mut self, message: Message, trap: Option<super::Trap>) -> io::Result<()> {
        match trap {
            None => {}
            Some(super::Trap { hold: Some(gate), .. }) => gate.pass().await,
            Some(super::Trap { hold: None, .. }) => {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        self.write.write_all(&message.bytes).await
    }
}
