//! Writes: `/memory/remember` and its batch, and what an old server has in their place.

use serde_json::{Map, Value, json};
use somaagent_supervision::Reply;
use tokio::time::Instant;

use super::{
    caller::{Call, Caller},
    endpoint::Endpoint,
    exchange::Answer,
    lane::{Ask, Kind},
    messages::{Asker, BrainError, MemoryWrite, Remember, RememberBatch, Remembered},
};
use crate::domain::memory::MemorySpace;

/// What an old server says where its newer path exists but has nothing behind it.
const NO_POOL: &str = "memory pool unavailable";

impl Ask for Remember {
    type Answer = Remembered;
    const KIND: Kind = Kind::Write;

    async fn answer(&self, caller: &Caller, since: Instant) -> Result<Remembered, BrainError> {
        let written = one(caller, &self.asker, &self.space, &self.memory).await;
        count(caller, &written, 1, since);
        written
    }

    fn reply(&self) -> &Reply<Result<Remembered, BrainError>> {
        &self.reply
    }

    fn into_reply(self) -> Reply<Result<Remembered, BrainError>> {
        self.reply
    }
}

impl Ask for RememberBatch {
    type Answer = Vec<Remembered>;
    const KIND: Kind = Kind::Write;

    async fn answer(&self, caller: &Caller, since: Instant) -> Result<Vec<Remembered>, BrainError> {
        if self.memories.is_empty() {
            return Ok(Vec::new());
        }
        let written = many(caller, &self.asker, &self.space, &self.memories).await;
        count(caller, &written, self.memories.len(), since);
        written
    }

    fn reply(&self) -> &Reply<Result<Vec<Remembered>, BrainError>> {
        &self.reply
    }

    fn into_reply(self) -> Reply<Result<Vec<Remembered>, BrainError>> {
        self.reply
    }
}

fn count<T>(caller: &Caller, written: &Result<T, BrainError>, memories: usize, since: Instant) {
    let result = written.as_ref().map_or_else(BrainError::as_str, |_| "ok");
    caller.deps.metrics.wrote(result, memories, since.elapsed());
}

async fn one(
    caller: &Caller,
    asker: &Asker,
    space: &MemorySpace,
    memory: &MemoryWrite,
) -> Result<Remembered, BrainError> {
    let retry = caller.deps.retry;
    let mut body = item(memory, space);
    place(&mut body, asker, space);
    match caller.call(asker, Call::of(Endpoint::Remember, &body, retry)?.or_404()).await {
        Ok(answer) if answer.status != 404 => {
            return remembered(read(&answer, Endpoint::Remember)?, Endpoint::Remember);
        }
        Err(BrainError::Refused { status: 400, detail, .. }) if detail.contains(NO_POOL) => {}
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let body = old_body(memory, space);
    let answer = caller.call(asker, Call::of(Endpoint::OldRemember, &body, retry)?).await?;
    remembered(read(&answer, Endpoint::OldRemember)?, Endpoint::OldRemember)
}

async fn many(
    caller: &Caller,
    asker: &Asker,
    space: &MemorySpace,
    memories: &[MemoryWrite],
) -> Result<Vec<Remembered>, BrainError> {
    let endpoint = Endpoint::RememberBatch;
    let items: Vec<_> = memories.iter().map(|memory| Value::Object(item(memory, space))).collect();
    let mut body = Map::from_iter([("items".to_owned(), items.into())]);
    place(&mut body, asker, space);
    let answer = caller.call(asker, Call::of(endpoint, &body, caller.deps.retry)?.or_404()).await?;
    if answer.status == 404 {
        let mut written = Vec::with_capacity(memories.len());
        for memory in memories {
            written.push(one(caller, asker, space, memory).await?);
        }
        return Ok(written);
    }
    let broken = |reason: &str| BrainError::Broken { endpoint, reason: reason.to_owned() };
    let mut answer = read(&answer, endpoint)?;
    let Some(Value::Array(results)) = answer.remove("results") else { return Err(broken("`results` is no list")) };
    if results.len() != memories.len() {
        return Err(broken("there are not as many results as memories"));
    }
    let pairs = memories.iter().zip(results);
    pairs
        .map(|(memory, result)| match result {
            Value::Object(fields) if fields.get("key").is_none_or(|key| *key == *memory.key) => {
                remembered(fields, endpoint)
            }
            _ => Err(broken("a result is not that of its memory")),
        })
        .collect()
}

/// The members of one memory, universe included.
fn item(memory: &MemoryWrite, space: &MemorySpace) -> Map<String, Value> {
    let mut item = memory.extra.clone();
    item.insert("key".into(), memory.key.as_str().into());
    item.insert("value".into(), value(memory, space));
    match &space.universe {
        Some(universe) => item.insert("universe".into(), universe.as_str().into()),
        None => item.remove("universe"),
    };
    item
}

/// Says in a body whose memory it is and where it belongs.
fn place(body: &mut Map<String, Value>, asker: &Asker, space: &MemorySpace) {
    body.insert("tenant".into(), asker.tenant.as_str().into());
    body.insert("namespace".into(), space.namespace.as_str().into());
    if let Some(universe) = &space.universe {
        body.insert("universe".into(), universe.as_str().into());
    }
}

/// The old server knows tenant and namespace from elsewhere.
fn old_body(memory: &MemoryWrite, space: &MemorySpace) -> Value {
    let mut body = json!({"payload": value(memory, space)});
    if let Some(universe) = &space.universe {
        body["universe"] = universe.as_str().into();
    }
    body
}

/// The memory, which also says its universe: recalls of other programs read it there.
fn value(memory: &MemoryWrite, space: &MemorySpace) -> Value {
    let mut value = memory.value.clone();
    if let (Value::Object(fields), Some(universe)) = (&mut value, &space.universe) {
        let said = fields.entry("universe").or_insert(Value::Null);
        if said.is_null() {
            *said = universe.as_str().into();
        }
    }
    value
}

fn read(answer: &Answer, endpoint: Endpoint) -> Result<Map<String, Value>, BrainError> {
    let broken = |reason: String| BrainError::Broken { endpoint, reason };
    if !(200..300).contains(&answer.status) {
        return Err(broken(format!("status {} is no answer to a write", answer.status)));
    }
    let fields: Map<String, Value> = serde_json::from_slice(&answer.body)
        .map_err(|error| broken(format!("the answer is no JSON object: {error}")))?;
    if fields.get("ok") == Some(&Value::Bool(false)) {
        return Err(broken("the server does not say that it is written".into()));
    }
    Ok(fields)
}

fn remembered(mut fields: Map<String, Value>, endpoint: Endpoint) -> Result<Remembered, BrainError> {
    let coordinate = match fields.remove("coordinate").unwrap_or_default() {
        Value::Null => None,
        Value::Array(numbers) => numbers.iter().map(Value::as_f64).collect(),
        // Old servers say it as they are told it.
        Value::String(text) => text.split(',').map(|number| number.trim().parse().ok()).collect(),
        _ => {
            let reason = "`coordinate` is neither a list nor a text".into();
            return Err(BrainError::Broken { endpoint, reason });
        }
    };
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (trace_id, request_id) = (text("trace_id"), text("request_id"));
    let warnings = match fields.remove("warnings") {
        Some(Value::Array(warnings)) => warnings.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let deduplicated = fields.remove("deduplicated").is_some_and(|said| said == true);
    Ok(Remembered { coordinate, trace_id, request_id, deduplicated, warnings, rest: fields })
}

#[cfg(test)]
mod tests;
