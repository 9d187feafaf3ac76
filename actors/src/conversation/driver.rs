//! One attempt at an answer, from recall to the model's last piece, as a stream that its conversation polls.
//!
//! Dropping the stream ends everything at once: the wait for a slot, the recall, the reading of files, the provider's connection.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_stream::stream;
use futures_util::{Stream, StreamExt};
use serde_json::Value;
use somaagent_supervision::AskError;
use tokio::{
    pin,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use super::{
    deps::Deps,
    files,
    messages::{ContextView, CutView, FileView, RecallView, RecalledItem},
    pages,
};
use crate::{
    domain::{
        context::{self, ContextError, Material, Role, Said},
        ids::SessionKey,
        origin::Origin,
        trace_context::TraceContext,
    },
    llm::{ChatRequest, ModelError, Piece},
    policy::{Act, Context, Leave},
    somabrain::messages::{Asker, BrainError, Memory, Recall},
    store::{StoreError, session_envelopes},
};

/// So many bytes of the history's texts are read for each token that the context may have: no token is counted for more, so what
/// is not read could not fit.
const BYTES_A_TOKEN: usize = 16;
/// Memories that a memory service gives at a time (1 to 50).
const MOST_RECALLED: u32 = 50;

/// What an attempt is about.
#[derive(Clone, Debug)]
pub struct Task {
    /// Whose session.
    pub key: SessionKey,
    /// Who began it, if that was proved.
    pub subject: Option<String>,
    /// Who answers.
    pub persona_id: Option<String>,
    /// Which turn.
    pub turn_seq: i64,
    /// Its user event.
    pub message: Arc<Value>,
    /// The request that asked, for the logs of the memory service too.
    pub correlation_id: Uuid,
    /// The trace of that request.
    pub trace: Option<TraceContext>,
}

/// What happens in an attempt, in this order: a slot, the recall, the files if there are any, the context, pieces, then the last
/// piece or a failure. A model that finds the context too long is asked once more, with fewer files.
#[derive(Debug)]
pub enum Progress {
    /// The attempt has one of the process's slots.
    Running,
    /// The memory service answered, or did not.
    Recalled(RecallView),
    /// Files are being read, without a slot.
    Reading,
    /// They were read, and the attempt waits for a slot again.
    Waiting,
    /// The model is being asked.
    Asked(ContextView),
    /// The model said something.
    Piece(Piece),
    /// The attempt cannot go on.
    Failed(Failure),
}

/// Why an attempt cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The model's.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The message does not fit.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// History could not be read. Another attempt may do better.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs one attempt.
pub fn attempt(deps: Arc<Deps>, task: Task) -> impl Stream<Item = Progress> + Send + 'static {
    stream! {
        // A slot is held until the stream is dropped, except while files are read.
        let Ok(slot) = Arc::clone(&deps.slots).acquire_owned().await else { return };
        yield Progress::Running;
        let (mut recalled, history) = tokio::join!(recall(&deps, &task), history(&deps, &task));
        if let Ok(history) = &history {
            forget_what_is_said_anyway(&mut recalled, &task, &history.messages);
        }
        let memories: Vec<String> = recalled.items.iter().map(|item| item.text.clone()).collect();
        yield Progress::Recalled(recalled);
        let history = match history {
            Ok(history) => history,
            Err(error) => {
                yield Progress::Failed(error.into());
                return;
            }
        };
        let references = references(&task, &history);
        let (files, _slot) = if references.iter().all(Vec::is_empty) {
            (Ok(files::Read::default()), slot)
        } else {
            yield Progress::Reading;
            // Others are answered meanwhile.
            drop(slot);
            let files = files::read(&deps, &task, references).await;
            yield Progress::Waiting;
            let Ok(slot) = Arc::clone(&deps.slots).acquire_owned().await else { return };
            (files, slot)
        };
        let mut asking = match withheld(&deps, &task, files).await {
            Ok(files) => Asking::new(&deps, &task, memories, (history, files)),
            Err(error) => {
                yield Progress::Failed(error.into());
                return;
            }
        };
        loop {
            let (request, view, mut smaller) = match asking.request() {
                Ok(asked) => asked,
                Err(error) => {
                    yield Progress::Failed(error.into());
                    return;
                }
            };
            yield Progress::Asked(view);
            let answer = deps.model.stream(request);
            pin!(answer);
            let mut too_long = None;
            while let Some(piece) = answer.next().await {
                // Only what begins with this error was not answered at all.
                match (piece, smaller.take()) {
                    (Err(ModelError::ContextTooLong(_)), Some(budget)) => too_long = Some(budget),
                    (Ok(piece), _) => yield Progress::Piece(piece),
                    (Err(error), _) => yield Progress::Failed(error.into()),
                }
            }
            let Some(budget) = too_long else { return };
            let (session, correlation_id) = (&task.key, task.correlation_id);
            tracing::info!(%session, %correlation_id, budget, "the model is asked again with fewer files");
            asking.shrink(budget);
        }
    }
}

/// What was said before.
struct History {
    /// Oldest first.
    messages: Vec<Said>,
    /// The files of each.
    files: Vec<Vec<Uuid>>,
    /// How many before these were not read, because they could not fit.
    unread: usize,
}

async fn history(deps: &Deps, task: &Task) -> Result<History, StoreError> {
    let max_bytes = deps.context_budget.saturating_mul(BYTES_A_TOKEN);
    let limit = deps.turns.history_messages;
    let said = pages::said_before(&deps.store, &task.key, task.turn_seq, limit, max_bytes).await?;
    let spoken = said.events.iter().rev().map(|event| {
        let role = if event.type_name() == "user" { Role::User } else { Role::Assistant };
        let message = event.payload["message"].as_str().unwrap_or_default();
        (Said::new(role, message), files::references(&event.payload))
    });
    let (messages, files) = spoken.filter(|(said, files)| !said.text.is_empty() || !files.is_empty()).unzip();
    Ok(History { messages, files, unread: usize::try_from(said.unread).unwrap_or_default() })
}

/// The files of the message, then those of what was said before, the newest first.
fn references(task: &Task, history: &History) -> Vec<Vec<Uuid>> {
    let earlier = history.files.iter().rev().cloned();
    std::iter::once(files::references(&task.message)).chain(earlier).collect()
}

/// A session's own words come back as memories too: what the context has as history is not told twice.
fn forget_what_is_said_anyway(recalled: &mut RecallView, task: &Task, said: &[Said]) {
    let known: HashSet<&str> =
        said.iter().map(|said| said.text.as_str()).chain(task.message["message"].as_str()).collect();
    recalled.items.retain(|item| !known.contains(item.text.as_str()));
}

/// The files without what nobody is to get any more.
async fn withheld(deps: &Deps, task: &Task, files: Result<files::Read, StoreError>) -> Result<files::Read, StoreError> {
    let mut files = files?;
    files::withhold(deps, task, &mut files).await?;
    Ok(files)
}

/// What a model is asked with.
struct Asking<'a> {
    system_prompt: &'a str,
    memories: Vec<String>,
    history: Vec<Said>,
    message: Said,
    budget: usize,
    /// Messages and files that were not even read.
    unread: (usize, usize),
    shrunk: bool,
}

impl<'a> Asking<'a> {
    fn new(deps: &'a Deps, task: &Task, memories: Vec<String>, (history, read): (History, files::Read)) -> Self {
        let references = references(task, &history);
        let History { messages: mut history, unread, .. } = history;
        let mut message = Said::new(Role::User, task.message["message"].as_str().unwrap_or_default());
        // They were read in this order.
        let said = std::iter::once(&mut message).chain(history.iter_mut().rev());
        for ((said, files), references) in said.zip(read.files).zip(references) {
            said.files = files;
            if said.files.is_empty() && !references.is_empty() {
                said.leave_out_files();
            }
        }
        let system_prompt = &*deps.turns.system_prompt;
        let (budget, unread) = (deps.context_budget, (unread, read.unread));
        Self { system_prompt, memories, history, message, budget, unread, shrunk: false }
    }

    /// The request, how it looks, and with how many tokens it may be made once more.
    fn request(&self) -> Result<(ChatRequest, ContextView, Option<usize>), ContextError> {
        let Self { system_prompt, memories, history, message, budget, unread, shrunk } = self;
        let context = context::build(Material { system_prompt, memories, history, message }, *budget)?;
        let view = ContextView {
            tokens: context.tokens as u64,
            budget: context.budget as u64,
            messages: context.messages.len(),
            cut: CutView {
                memories: context.cut.memories,
                history_messages: context.cut.history_messages + unread.0,
                files: context.cut.files + unread.1,
            },
            files: context.files.into_iter().map(FileView::from).collect(),
        };
        let smaller = context.smaller.filter(|_| !shrunk);
        Ok((ChatRequest { messages: context.messages, ..ChatRequest::default() }, view, smaller))
    }

    /// Makes do with `budget` tokens and without the files of earlier messages.
    fn shrink(&mut self, budget: usize) {
        (self.budget, self.shrunk) = (budget, true);
        for said in &mut self.history {
            self.unread.1 += said.files.len();
            if !said.files.is_empty() {
                said.leave_out_files();
            }
        }
    }
}

/// Leaves out what was said in sessions of others: whoever may not read those is not told of them by an answer either. Of a
/// memory that does not say where it comes from nobody knows that.
async fn own(deps: &Deps, task: &Task, mut memories: Vec<Memory>) -> Result<Vec<Memory>, StoreError> {
    let Some(subject) = task.subject.clone().filter(|_| !sees_all(deps, task)) else { return Ok(memories) };
    memories.retain(|memory| Origin::of(&memory.item) != Origin::Unknown);
    let sessions: Vec<Uuid> = memories
        .iter()
        .filter_map(|memory| match Origin::of(&memory.item) {
            Origin::Session(id) if id != task.key.session_id => Some(id),
            _ => None,
        })
        .collect();
    if sessions.is_empty() {
        return Ok(memories);
    }
    let tenant = task.key.tenant.clone();
    let others = deps.store.read_for(task.key.tenant.clone(), move |rows| {
        Box::pin(async move { session_envelopes::of_others(rows, &tenant, &sessions, &subject).await })
    });
    let others: HashSet<Uuid> = others.await?.into_iter().collect();
    memories.retain(|memory| !matches!(Origin::of(&memory.item), Origin::Session(id) if others.contains(&id)));
    Ok(memories)
}

/// Whether an answer may draw on all of the tenant's memories.
const fn sees_all(deps: &Deps, task: &Task) -> bool {
    deps.tenant_sessions || task.subject.is_none()
}

async fn recall(deps: &Deps, task: &Task) -> RecallView {
    let begun = Instant::now();
    let within = Duration::from_millis(deps.turns.recall_deadline_ms);
    let deadline = begun + within;
    let (state, items) = if within.is_zero() {
        ("off", vec![])
    } else {
        match timeout_at(deadline, leave(deps, task)).await {
            Ok(Leave::Granted) => recalled(deps, task, deadline).await,
            Ok(Leave::Denied) => ("denied", vec![]),
            Ok(Leave::Unknown) => ("unavailable", vec![]),
            Err(_) => ("timeout", vec![]),
        }
    };
    let item = |memory: Memory| RecalledItem { text: memory.text, score: memory.score, source: memory.source };
    let most = usize::try_from(deps.turns.recall_top_k).unwrap_or(usize::MAX);
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    RecallView { state, took_ms, items: items.into_iter().take(most).map(item).collect() }
}

/// Whether the policy lets the session be told what is remembered.
async fn leave(deps: &Deps, task: &Task) -> Leave {
    let (tenant, subject) = (&task.key.tenant, task.subject.as_deref());
    let persona_id = task.persona_id.as_deref();
    let act = Act { tenant, subject, persona_id, action: "memory.recall", resource: "somabrain" };
    deps.policy.leave(act, &Context { session_id: Some(task.key.session_id), ..Context::default() }).await
}

/// What the memory service knows, and how it went.
async fn recalled(deps: &Deps, task: &Task, deadline: Instant) -> (&'static str, Vec<Memory>) {
    let ask = |reply| Recall {
        query: task.message["message"].as_str().unwrap_or_default().to_owned(),
        asker: Asker {
            tenant: task.key.tenant.clone(),
            correlation_id: task.correlation_id,
            trace: task.trace.clone(),
            deadline,
        },
        space: deps.space.as_ref().clone(),
        // Some of them may be of others, and are left out.
        top_k: if sees_all(deps, task) { deps.turns.recall_top_k } else { MOST_RECALLED },
        session_id: task.key.session_id,
        reply,
    };
    match deps.recall.call(ask, deadline - Instant::now()).await {
        Ok(Ok(recalled)) => match own(deps, task, recalled.memories).await {
            Ok(memories) => ("ok", memories),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "nobody knows whose the memories are");
                ("unavailable", vec![])
            }
        },
        Ok(Err(BrainError::TimedOut { .. })) | Err(AskError::Timeout) => ("timeout", vec![]),
        Ok(Err(_)) | Err(_) => ("unavailable", vec![]),
    }
}
