//! Those who bring memories: each writes one of its own anew again and again, in one session and another, and takes it back in
//! between. What it was told last is how it must end.

use std::time::Duration;

use serde_json::{Value, json};
use somaagent_test_services::client::Client;
use somaagent_test_services::seed::Case;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::evidence::{End, Note};

/// Rest before a step is taken again that was not acknowledged.
const AGAIN: Duration = Duration::from_millis(60);

/// How long after the last fault a step must be acknowledged at the latest.
const PATIENCE: Duration = Duration::from_mins(1);

/// Writes and takes back the memory `id` until `over` says that the faults are, and leaves it as `end` says then.
pub async fn keep(
    client: Client,
    id: String,
    sessions: Vec<String>,
    end: End,
    mut case: Case,
    mut over: watch::Receiver<bool>,
) -> Note {
    let mut keeper = Keeper { client, tries: 0, note: Note::new(id) };
    while !*over.borrow_and_update() {
        let session = &sessions[case.index(sessions.len())];
        let step = if case.chance(75) { End::Written } else { End::TakenBack };
        keeper.take(step, session, &over).await;
        let rest = Duration::from_millis(case.number(20..=220));
        let _ = tokio::time::timeout(rest, over.changed()).await;
    }
    keeper.take(end, &sessions[case.index(sessions.len())], &over).await;
    keeper.note
}

/// Why a step is to be taken again.
enum Why {
    /// The reply says that, and what came of it.
    NotYet,
    /// Nobody told what came of it.
    Unknown,
    /// A reply that no client should ever get.
    Absurd(String),
}

struct Keeper {
    client: Client,
    tries: usize,
    note: Note,
}

impl Keeper {
    /// Takes a step until it is acknowledged. Each try says something of its own, so that one whose fate nobody told is known
    /// by what it leaves.
    async fn take(&mut self, step: End, session: &str, over: &watch::Receiver<bool>) {
        let mut deadline = None;
        loop {
            self.tries += 1;
            let said = format!("{} {}", self.note.id, self.tries);
            let told = match step {
                End::Written => self.write(session, &said).await,
                End::TakenBack => self.take_back().await,
            };
            let left = (step == End::Written).then_some(said);
            match told {
                Ok(()) => {
                    self.note.last = left;
                    return;
                }
                Err(Why::Unknown) => self.note.unknown.push(left),
                Err(Why::NotYet) => {}
                Err(Why::Absurd(reply)) => self.note.absurd.push(reply),
            }
            if *over.borrow() && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + PATIENCE) {
                self.note.absurd.push(format!("{} was not {step:?} though all was well again", self.note.id));
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn write(&self, session: &str, said: &str) -> Result<(), Why> {
        let item = json!({"id": self.note.id, "session_id": session, "role": "user", "content": said});
        let answer = self.client.post("/v1/memory/batch", &json!({"items": [item]})).await.map_err(|_| Why::Unknown)?;
        match answer.status {
            200 if answer.json()["items"][0]["ok"] == true => Ok(()),
            503 => Err(Why::NotYet),
            504 => Err(Why::Unknown),
            status => Err(Why::Absurd(format!("a memory was answered {status}: {}", answer.text))),
        }
    }

    async fn take_back(&self) -> Result<(), Why> {
        let answer = self.client.delete(&format!("/v1/memory/{}", self.note.id)).await.map_err(|_| Why::Unknown)?;
        match answer.status {
            // A write that was under way may have come to the memory service behind the deletion.
            200 if answer.json()["result"]["under_way"] != json!(0) => Err(Why::NotYet),
            200 if answer.json()["deleted"] == Value::Bool(true) => Ok(()),
            // It is gone here, and is to be asked for again.
            502 if answer.code() == "deletion-incomplete" => Err(Why::NotYet),
            503 => Err(Why::NotYet),
            504 => Err(Why::Unknown),
            status => Err(Why::Absurd(format!("a deletion was answered {status}: {}", answer.text))),
        }
    }
}
