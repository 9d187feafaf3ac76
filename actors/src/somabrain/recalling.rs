//! Recalls: `/memory/recall`, and `/recall` where the server is too old to know it.

use somaagent_supervision::Reply;
use tokio::time::Instant;

use super::{
    caller::{Call, Caller},
    endpoint::Endpoint,
    exchange::Answer,
    lane::{Ask, Kind},
    messages::{BrainError, Recall, Recalled},
    wire::{OldRecallBody, RecallAnswer, RecallBody},
};

/// Memories a recall may ask for.
const TOP_K: std::ops::RangeInclusive<u32> = 1..=50;

impl Ask for Recall {
    type Answer = Recalled;
    const KIND: Kind = Kind::Recall;

    async fn answer(&self, caller: &Caller, since: Instant) -> Result<Recalled, BrainError> {
        let universe = self.space.universe.as_deref();
        let (query, top_k) = (self.query.as_str(), self.top_k.clamp(*TOP_K.start(), *TOP_K.end()));
        let (tenant, namespace) = (self.asker.tenant.as_str(), self.space.namespace.as_str());
        let session_id = self.session_id.to_string();
        let body = RecallBody { tenant, namespace, query, top_k, universe, session_id };
        let retry = caller.deps.recall_retry;
        let answer = caller.call(&self.asker, Call::of(Endpoint::Recall, &body, retry)?.or_404()).await?;
        if answer.status != 404 {
            return read(&answer, Endpoint::Recall, since);
        }
        let body = OldRecallBody { query, top_k, universe };
        let answer = caller.call(&self.asker, Call::of(Endpoint::OldRecall, &body, retry)?).await?;
        read(&answer, Endpoint::OldRecall, since)
    }

    fn reply(&self) -> &Reply<Result<Recalled, BrainError>> {
        &self.reply
    }

    fn into_reply(self) -> Reply<Result<Recalled, BrainError>> {
        self.reply
    }
}

fn read(answer: &Answer, endpoint: Endpoint, since: Instant) -> Result<Recalled, BrainError> {
    let broken = |reason: String| BrainError::Broken { endpoint, reason };
    if answer.status != 200 {
        return Err(broken(format!("status {} is no answer to a recall", answer.status)));
    }
    let body =
        serde_json::from_slice(&answer.body).map_err(|error| broken(format!("the answer is no JSON: {error}")))?;
    let RecallAnswer { memories, skipped, degraded, rest } =
        RecallAnswer::read(body).map_err(|reason| broken(reason.to_owned()))?;
    Ok(Recalled { memories, skipped, degraded, took: since.elapsed(), rest })
}
