//! The people: each posts to a session and does with every reply what the interface says.

use std::time::Duration;

use somaagent_test_services::client::{Answer, Client, Post};
use somaagent_test_services::seed::Case;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::evidence::{Acknowledged, Told};

/// Rest before a message is sent again that was not accepted.
const AGAIN: Duration = Duration::from_millis(60);

/// How long after the last fault a message must be accepted at the latest.
const PATIENCE: Duration = Duration::from_mins(1);

/// Posts to one session until `over` says that the faults are, and goes on then with what has no clear answer yet.
pub async fn post(client: Client, session: String, mut case: Case, mut over: watch::Receiver<bool>) -> Told {
    let mut poster = Poster { client, session, keyed: Vec::new(), told: Told::default() };
    let mut number = 0;
    while !*over.borrow_and_update() {
        number += 1;
        let message = format!("{}: {number}", poster.session);
        // The first one makes the session, which everybody else waits for.
        if number == 1 || case.chance(65) {
            poster.send_with_a_key(message, &over).await;
        } else {
            poster.send_once(message).await;
        }
        if case.chance(20) && !poster.keyed.is_empty() {
            let choice = case.index(poster.keyed.len());
            poster.send_again(choice).await;
        }
        let rest = Duration::from_millis(case.number(20..=220));
        let _ = tokio::time::timeout(rest, over.changed()).await;
    }
    poster.told
}

struct Poster {
    client: Client,
    session: String,
    /// Messages that were accepted under a key, with it.
    keyed: Vec<(String, Acknowledged)>,
    told: Told,
}

/// What a reply means to whoever sent the message.
enum Fate {
    Accepted(Acknowledged),
    /// It is not stored and never will be.
    Refused,
    Unknown,
}

impl Poster {
    /// Sends under a key until the message is accepted.
    async fn send_with_a_key(&mut self, message: String, over: &watch::Receiver<bool>) {
        let key = Uuid::new_v4().to_string();
        let post = Post::new(&message).to(&self.session).key(&key);
        let mut deadline = None;
        loop {
            if let Fate::Accepted(acknowledged) = self.send(&post, &message).await {
                self.told.acknowledged.push(acknowledged.clone());
                self.keyed.push((key, acknowledged));
                return;
            }
            if *over.borrow() && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + PATIENCE) {
                self.told.absurd.push(format!("`{message}` was not accepted though all was well again"));
                self.told.unknown.push(message);
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Sends without a key: what has no clear answer must not be sent again.
    async fn send_once(&mut self, message: String) {
        match self.send(&Post::new(&message).to(&self.session), &message).await {
            Fate::Accepted(acknowledged) => self.told.acknowledged.push(acknowledged),
            Fate::Refused => tokio::time::sleep(AGAIN).await,
            Fate::Unknown => self.told.unknown.push(message),
        }
    }

    /// Sends a message again that was accepted: the answer, if there is one, is the first one.
    async fn send_again(&mut self, choice: usize) {
        let (key, first) = self.keyed[choice].clone();
        let post = Post::new(&first.message).to(&self.session).key(&key);
        if let Fate::Accepted(again) = self.send(&post, &first.message).await
            && (&again.event_id, again.seq) != (&first.event_id, first.seq)
        {
            self.told
                .absurd
                .push(format!("`{}` was accepted as {first:?} and, sent again, as {again:?}", first.message));
        }
    }

    async fn send(&mut self, post: &Post, message: &str) -> Fate {
        // The gateway may be dead, or die before it has answered.
        let Ok(answer) = self.client.message(post).await else { return Fate::Unknown };
        match answer.status {
            200 => match self.acknowledged(&answer, message) {
                Some(acknowledged) => Fate::Accepted(acknowledged),
                None => self.absurd(&answer),
            },
            409 if answer.code() == "session-queue-full" => Fate::Refused,
            503 => {
                self.told.refused.extend(Some(answer.text_of("event_id")).filter(|id| !id.is_empty()));
                Fate::Refused
            }
            504 => Fate::Unknown,
            _ => self.absurd(&answer),
        }
    }

    fn acknowledged(&self, answer: &Answer, message: &str) -> Option<Acknowledged> {
        Some(Acknowledged {
            session: self.session.clone(),
            message: message.to_owned(),
            event_id: Some(answer.text_of("event_id")).filter(|id| !id.is_empty())?,
            seq: answer.json()["seq"].as_u64()?,
        })
    }

    fn absurd(&mut self, answer: &Answer) -> Fate {
        self.told.absurd.push(format!("a post was answered {}: {}", answer.status, answer.text));
        Fate::Unknown
    }
}
