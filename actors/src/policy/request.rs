//! Who asks for what, and the input that the policy is given.
//!
//! Only what is named here reaches a policy, and nothing here holds a token, a header or the text of a message.

use regorus::{Value, value::Object};
use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::masked;
use crate::domain::{hex::hex, ids::Tenant};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The tenant whose data would be touched.
    pub tenant: &'a Tenant,
    /// The persona that speaks, if the request names one.
    pub persona_id: Option<&'a str>,
    /// Who it is.
    pub asker: Asker<'a>,
}

/// Who somebody is.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// Somebody who has proved who they are.
    Member {
        /// Their name.
        subject: &'a str,
        /// Who vouches for them, if that is known.
        issuer: Option<&'a str>,
        /// What they were granted, separated by blanks.
        scope: Option<&'a str>,
    },
    /// Somebody who has proved nothing.
    Nobody {
        /// Whether this process wants proofs.
        auth_required: bool,
    },
    /// An actor that acts for a session.
    Worker {
        /// Who the session belongs to, if that is known. It gives the actor no rights of theirs.
        subject: Option<&'a str>,
    },
}

/// What else is known about the request. All of it may be left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// The session that is meant.
    pub session_id: Option<Uuid>,
    /// How long the message is, in characters.
    pub message_length: Option<u64>,
    /// What is to be remembered: the type of an event.
    pub payload_type: Option<&'a str>,
    /// Who said what is to be remembered.
    pub role: Option<&'a str>,
    /// Arguments of a tool, or name, type and size of a file. Values whose names sound like secrets are masked; secrets inside of texts are not seen.
    pub args: Option<&'a Map<String, Json>>,
}

/// The input of one decision: the object `{"tenant", "persona_id", "action", "resource", "context"}`.
#[derive(Debug, Clone)]
pub(super) struct Input(Value);

/// An input as text.
#[derive(Debug)]
pub(super) struct Written {
    /// The canonical JSON.
    pub(super) text: Vec<u8>,
    /// Its SHA-256 in hexadecimal digits. Two requests have the same exactly if no policy can tell them apart.
    pub(super) digest: String,
}

impl Input {
    pub(super) fn new(
        subject: &Subject<'_>,
        action: &str,
        resource: &str,
        context: &Context<'_>,
        tenant_sessions: bool,
    ) -> Self {
        Self(object([
            Some(("action", Value::from(action))),
            Some(("context", subject.asker.told(context, tenant_sessions))),
            Some(("persona_id", text_or_null(subject.persona_id))),
            Some(("resource", Value::from(resource))),
            Some(("tenant", Value::from(subject.tenant.as_str()))),
        ]))
    }

    /// As canonical JSON: members sorted by name, no blanks. `None` if it cannot be written, which no input is known for.
    pub(super) fn written(&self) -> Option<Written> {
        let text = serde_json::to_vec(&self.0).ok()?;
        Some(Written { digest: hex(&Sha256::digest(&text)), text })
    }

    /// As the policy reads it. Cheap: it is shared.
    pub(super) fn value(&self) -> Value {
        self.0.clone()
    }
}

impl Asker<'_> {
    /// The member `context`. What opens a door is said in both forms, so that its absence opens none.
    fn told(&self, context: &Context<'_>, tenant_sessions: bool) -> Value {
        let (auth_required, authenticated, worker) = match self {
            Self::Member { .. } => (true, true, false),
            Self::Nobody { auth_required } => (*auth_required, false, false),
            Self::Worker { .. } => (true, false, true),
        };
        let (subject, issuer, scope) = match self {
            Self::Member { subject, issuer, scope } => (Some(*subject), *issuer, scope.unwrap_or_default()),
            Self::Nobody { .. } => (None, None, ""),
            Self::Worker { subject } => (*subject, None, ""),
        };
        let scopes: Vec<Value> = scope.split(' ').filter(|word| !word.is_empty()).map(Value::from).collect();
        let text = |name: &'static str, given: Option<&str>| given.map(|given| (name, Value::from(given)));
        object([
            context.args.map(|args| ("args", masked::arguments(args))),
            Some(("auth_required", Value::from(auth_required))),
            Some(("authenticated", Value::from(authenticated))),
            text("issuer", issuer),
            context.message_length.map(|length| ("message_length", Value::from(length))),
            text("payload_type", context.payload_type),
            text("role", context.role),
            Some(("scopes", Value::from(scopes))),
            context.session_id.map(|id| ("session_id", Value::from(id.to_string()))),
            Some(("subject", text_or_null(subject))),
            Some(("tenant_sessions", Value::from(tenant_sessions))),
            Some(("worker", Value::from(worker))),
        ])
    }
}

fn text_or_null(given: Option<&str>) -> Value {
    given.map_or(Value::Null, Value::from)
}

fn object<const N: usize>(members: [Option<(&str, Value)>; N]) -> Value {
    let members = members.into_iter().flatten().map(|(name, value)| (Value::from(name), value));
    Value::from(members.collect::<Object>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use serde_json::json;

    use super::*;

    fn written(input: &Input) -> String {
        serde_json::to_string(&input.0).unwrap()
    }

    #[test]
    fn the_input_is_canonical_and_so_is_its_digest() {
        let tenant = Tenant::new("acme").unwrap();
        let asker =
            Asker::Member { subject: "u-1", issuer: Some("https://id.example"), scope: Some(" chat  sessions:tenant") };
        let args = json!({"z": 1, "a": {"y": "ä", "token": "canary"}});
        let context = Context {
            session_id: Some(Uuid::from_u128(7)),
            message_length: Some(12),
            payload_type: Some("user"),
            role: Some("user"),
            args: args.as_object(),
        };
        let subject = Subject { tenant: &tenant, persona_id: Some("p"), asker };
        let input = Input::new(&subject, "conversation.send", "message", &context, false);
        let expected = concat!(
            r#"{"action":"conversation.send","context":{"args":{"a":{"token":"************","y":"ä"},"z":1},"#,
            r#""auth_required":true,"authenticated":true,"issuer":"https://id.example","message_length":12,"#,
            r#""payload_type":"user","role":"user","scopes":["chat","sessions:tenant"],"#,
            r#""session_id":"00000000-0000-0000-0000-000000000007","subject":"u-1","tenant_sessions":false,"#,
            r#""worker":false},"persona_id":"p","resource":"message","tenant":"acme"}"#,
        );
        assert_eq!(written(&input), expected);
        let written = input.written().unwrap();
        assert_eq!((written.text, written.digest), (expected.as_bytes().to_vec(), hex(&Sha256::digest(expected))));
    }

    #[test]
    fn who_asks_is_said_in_full() {
        let tenant = Tenant::new("acme").unwrap();
        for (asker, auth_required, authenticated, worker, subject, scopes) in [
            (Asker::Member { subject: "u", issuer: None, scope: None }, true, true, false, json!("u"), json!([])),
            (
                Asker::Member { subject: "u", issuer: None, scope: Some("a\u{a0}admin") },
                true,
                true,
                false,
                json!("u"),
                json!(["a\u{a0}admin"]),
            ),
            (Asker::Nobody { auth_required: true }, true, false, false, json!(null), json!([])),
            (Asker::Nobody { auth_required: false }, false, false, false, json!(null), json!([])),
            (Asker::Worker { subject: None }, true, false, true, json!(null), json!([])),
            (Asker::Worker { subject: Some("u") }, true, false, true, json!("u"), json!([])),
        ] {
            let subject_of = Subject { tenant: &tenant, persona_id: None, asker };
            let input = Input::new(&subject_of, "a", "r", &Context::default(), true);
            let expected = json!({
                "tenant": "acme", "persona_id": null, "action": "a", "resource": "r",
                "context": {
                    "auth_required": auth_required, "authenticated": authenticated, "worker": worker,
                    "subject": subject, "scopes": scopes, "tenant_sessions": true,
                },
            });
            assert_eq!(serde_json::to_value(&input.0).unwrap(), expected, "{asker:?}");
        }
    }
}
