//! What was decided.

use std::sync::Arc;

use regorus::Value;

use crate::domain::caller::Reach;

/// The rule of a denial that lacks only an admin's scope.
pub const ADMIN_SCOPE: &str = "admin-scope";
/// The rule of a denial for want of a decision: the policy failed, or did not answer as it must.
pub const POLICY_ERROR: &str = "policy-error";

/// The action of what is everybody's: whether the process is well, its page, its description.
pub const PUBLIC: &str = "public";

/// Whether something may be done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub allow: bool,
    /// Name of the rule that decided, in kebab-case: [`ADMIN_SCOPE`], [`POLICY_ERROR`], or another of the policy's.
    pub rule: Arc<str>,
    /// Why, in a few words for people. It repeats nothing of the request.
    pub reason: Arc<str>,
    /// Whose sessions are meant.
    pub reach: Reach,
    /// SHA-256 of what the policy was asked, in hexadecimal digits: ties a decision to what was known when it was made.
    pub input_digest: String,
}

impl Decision {
    /// Reads what the policy answered. `None` unless it is exactly `{"allow", "rule", "reason", "reach"}`, each of its kind: what
    /// else an answer says might be a condition, and nobody here would meet it.
    pub(super) fn read(answer: &Value, input_digest: &str) -> Option<Self> {
        let Value::Object(members) = answer else { return None };
        let member = |name: &str| members.get(&Value::from(name));
        let text = |name: &str| match member(name)? {
            Value::String(text) if !text.is_empty() => Some(Arc::clone(text)),
            _ => None,
        };
        let Value::Bool(allow) = *member("allow")? else { return None };
        let reach = match &*text("reach")? {
            "own" => Reach::Own,
            "tenant" => Reach::Tenant,
            _ => return None,
        };
        if members.len() != 4 {
            return None;
        }
        Some(Self { allow, rule: text("rule")?, reason: text("reason")?, reach, input_digest: input_digest.to_owned() })
    }

    /// The denial for want of a decision.
    pub(super) fn failed(input_digest: String) -> Self {
        let reason = "the policy could not be asked";
        Self { allow: false, rule: POLICY_ERROR.into(), reason: reason.into(), reach: Reach::Own, input_digest }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_decision_is_read_strictly() {
        let fine = json!({"allow": true, "rule": "member", "reason": "so it is", "reach": "tenant"});
        let read = |answer: &serde_json::Value| Decision::read(&Value::from(answer.clone()), "d");
        let decision = read(&fine).unwrap();
        assert!(decision.allow && decision.reach == Reach::Tenant);
        assert_eq!((&*decision.rule, &*decision.reason, &*decision.input_digest), ("member", "so it is", "d"));
        for (name, odd) in [
            ("allow", json!("true")),
            ("allow", json!(1)),
            ("allow", json!(null)),
            ("rule", json!("")),
            ("rule", json!(["member"])),
            ("reason", json!("")),
            ("reason", json!(null)),
            ("reach", json!("world")),
            ("reach", json!(true)),
            ("unless", json!("it rains")),
        ] {
            let mut answer = fine.clone();
            answer[name] = odd;
            assert_eq!(read(&answer), None, "{answer}");
        }
        for name in ["allow", "rule", "reason", "reach"] {
            let mut answer = fine.clone();
            answer.as_object_mut().unwrap().remove(name);
            assert_eq!(read(&answer), None, "{answer}");
        }
        for odd in [json!(true), json!([fine]), json!({}), json!(null), json!("allow")] {
            assert_eq!(read(&odd), None, "{odd}");
        }
        assert_eq!(Decision::read(&Value::Undefined, "d"), None);
    }
}
