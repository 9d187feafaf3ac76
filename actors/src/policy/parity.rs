//! Questions about everything that may be asked, near misses among it, and two policies compared by them.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    deciding::Policy,
    decision::{Decision, POLICY_ERROR},
    request::{Asker, Context, Subject},
};
use crate::domain::ids::Tenant;

/// What no operation asks for, near misses among it.
const ODD_ACTIONS: [&str; 18] = [
    "",
    " ",
    "Public",
    "public ",
    "admin",
    "admin.",
    "adminactors.read",
    "ADMIN.actors.read",
    "conversation.send.more",
    "memory.recall",
    "attachments.show",
    "tool.execute",
    "tool.catalog.update",
    "settings.update.all",
    "0",
    "\u{202e}nimda",
    "admin\u{200b}.actors.read",
    "ádmin.äctors.🦜",
];

const RESOURCES: [&str; 10] = [
    "message",
    "somabrain",
    "conversation_memory",
    "echo",
    "timestamp",
    "document_ingest",
    "/v1/sessions/{session_id}",
    "",
    "\"\\\u{7}\u{2028}",
    "ｅｃｈｏ",
];

const TENANTS: [&str; 4] = ["acme", "public", "Public", "größe \"7\" 🦜"];

const SCOPES: [Option<&str>; 10] = [
    None,
    Some(""),
    Some("chat"),
    Some(" chat  sessions:tenant "),
    Some("admin"),
    Some("Admin administrator xadmin"),
    Some("keys:manage"),
    Some("a\u{a0}admin"),
    Some("\u{61}dm\u{69}n"),
    Some("ａｄｍｉｎ 🦜"),
];

/// Questions that wait for an answer at a time.
const AT_A_TIME: usize = 8;

/// Something that may be asked of a policy.
#[derive(Debug, Clone)]
pub struct Question {
    tenant: &'static str,
    persona: Option<&'static str>,
    asker: Asker<'static>,
    action: String,
    resource: &'static str,
    context: Context<'static>,
    args: Option<Map<String, Value>>,
}

/// What two policies answered.
#[derive(Debug, Clone)]
pub struct Answers {
    /// The action that was asked for.
    pub action: String,
    /// To what.
    pub resource: &'static str,
    /// What the one decided; nothing if it failed.
    pub one: Option<Decision>,
    /// What the other decided; nothing if it failed.
    pub other: Option<Decision>,
}

impl Answers {
    /// Whether both decided, and alike but for their words.
    #[must_use]
    pub fn agree(&self) -> bool {
        let (Some(one), Some(other)) = (&self.one, &self.other) else { return false };
        (one.allow, &one.rule, one.reach) == (other.allow, &other.rule, other.reach)
    }
}

impl Question {
    /// What both decide about it.
    pub async fn ask(&self, one: &Policy, other: &Policy) -> Option<Answers> {
        let tenant = Tenant::new(self.tenant)?;
        let subject = Subject { tenant: &tenant, persona_id: self.persona, asker: self.asker };
        let context = Context { args: self.args.as_ref(), ..self.context };
        let decide = async |policy: &Policy| {
            let decision = policy.decide(&subject, &self.action, self.resource, &context).await;
            (&*decision.rule != POLICY_ERROR).then_some(decision)
        };
        let (one, other) = (decide(one).await, decide(other).await);
        Some(Answers { action: self.action.clone(), resource: self.resource, one, other })
    }
}

/// Asks both policies all questions, a few at a time, and gives what they answered in the order of the questions.
pub async fn compare(one: &Policy, other: &Policy, questions: impl IntoIterator<Item = Question>) -> Vec<Answers> {
    let asked = questions.into_iter().map(|question| async move { question.ask(one, other).await });
    stream::iter(asked).buffered(AT_A_TIME).filter_map(std::future::ready).collect().await
}

/// Everything that may be asked of these actions and of odd ones.
#[must_use]
pub fn questions(actions: &BTreeSet<String>) -> Vec<Question> {
    let mut all = Vec::new();
    for action in actions.iter().map(String::as_str).chain(ODD_ACTIONS) {
        for asker in askers() {
            // What actors may do, they may do to the first two.
            for resource in ["message", "somabrain", RESOURCES[all.len() % RESOURCES.len()]] {
                let n = all.len();
                let context = Context {
                    session_id: n.is_multiple_of(2).then(|| Uuid::from_u128(n as u128)),
                    message_length: [None, Some(0), Some(u64::MAX)][n % 3],
                    payload_type: [None, Some("user"), Some("ä\"")][n % 3],
                    role: [None, Some("assistant")][n % 2],
                    args: None,
                };
                all.push(question(n, asker, (action, resource), context, None));
            }
        }
    }
    for args in arguments() {
        for (asker, resource) in askers().into_iter().step_by(3).flat_map(|asker| RESOURCES.map(|of| (asker, of))) {
            let args = args.as_object().cloned();
            all.push(question(all.len(), asker, ("tool.execute", resource), Context::default(), args));
        }
    }
    all
}

fn question(
    number: usize,
    asker: Asker<'static>,
    (action, resource): (&str, &'static str),
    context: Context<'static>,
    args: Option<Map<String, Value>>,
) -> Question {
    let persona = number.is_multiple_of(3).then_some("pérsona");
    Question {
        tenant: TENANTS[number % TENANTS.len()],
        persona,
        asker,
        action: action.to_owned(),
        resource,
        context,
        args,
    }
}

fn askers() -> Vec<Asker<'static>> {
    let mut all = vec![
        Asker::Nobody { auth_required: true },
        Asker::Nobody { auth_required: false },
        Asker::Worker { subject: None },
        Asker::Worker { subject: Some("u-1") },
    ];
    all.extend(SCOPES.map(|scope| Asker::Member { subject: "u-1", issuer: None, scope }));
    all.push(Asker::Member {
        subject: "ü\u{0}\n\"'🦜",
        issuer: Some("https://id.example/ä"),
        scope: Some("admin chat"),
    });
    all
}

/// Arguments of tools, and values that JSON readers disagree about.
#[must_use]
pub fn arguments() -> Vec<Value> {
    let values = [
        json!("DENY"),
        json!("deny"),
        json!("DENY\u{0}"),
        json!("\u{44}ENY"),
        json!(["DENY"]),
        json!({"DENY": "DENY"}),
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(9_007_199_254_740_993_u64),
        json!(0.1),
        json!(-0.0),
        json!(1e-7),
        // Twice of it is still a number; beyond, OPA goes on and the policy inside the process closes.
        json!(1e300),
        json!(5e-324),
        json!(3.0),
        json!("🦜\u{2028}ß"),
    ];
    values.into_iter().map(|value| json!({"format": value, "deep": [{"api_key": "k", "n": value}]})).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;
    use crate::policy::PolicySettings;

    #[tokio::test]
    async fn a_policy_is_like_itself_and_unlike_one_with_another_setting() {
        let policy = |tenant_sessions| {
            Policy::from_settings(&PolicySettings { tenant_sessions, ..PolicySettings::default() }).unwrap()
        };
        let actions = ["public", "conversation.read"].map(str::to_owned).into();
        let differ = async |one: &Policy, other: &Policy| {
            let answers = compare(one, other, questions(&actions)).await;
            assert!(answers.len() > 500 && answers.iter().all(|both| both.one.is_some() && both.other.is_some()));
            answers.into_iter().filter(|both| !both.agree()).map(|both| both.action).collect::<BTreeSet<_>>()
        };
        assert!(differ(&policy(false), &policy(false)).await.is_empty());
        assert!(differ(&policy(false), &policy(true)).await.contains("conversation.read"));
    }
}
