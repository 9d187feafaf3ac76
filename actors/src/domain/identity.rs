//! Who a verified token speaks of.

use serde_json::{Map, Value};

use super::ids::Tenant;

/// Longest subject, issuer and list of scopes, in bytes.
pub const MAX_TEXT_BYTES: usize = 1_024;

/// Somebody whose name was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The tenant that they belong to.
    pub tenant: Tenant,
    /// Their name inside that tenant.
    pub subject: String,
    /// Who vouches for them, if the token says so.
    pub issuer: Option<String>,
    /// What they may do, separated by blanks; nothing if the token does not say it.
    pub scope: Option<String>,
}

impl Identity {
    /// Reads claims (RFC 7519 §4). The tenant is the first of `tenant_claims` that is there, and of a list its first element; the
    /// scopes are `scope` (RFC 8693 §4.2) or else `scp`, as text or as a list. `None` without a tenant or a subject, or if
    /// one of all these is not what it should be: then it is not known who it is.
    #[must_use]
    pub fn from_claims<'a>(
        claims: &Map<String, Value>,
        tenant_claims: impl IntoIterator<Item = &'a str>,
    ) -> Option<Self> {
        let claim = tenant_claims.into_iter().find_map(|name| given(claims, name))?;
        let tenant = match claim {
            Value::Array(names) => names.first()?.as_str()?,
            name => name.as_str()?,
        };
        let scope = given(claims, "scope").or_else(|| given(claims, "scp"));
        Some(Self {
            tenant: Tenant::new(tenant.trim())?,
            subject: text(given(claims, "sub")?.as_str()?)?,
            issuer: given(claims, "iss")
                .map(|issuer| text(issuer.as_str()?))
                .map_or(Some(None), |text| text.map(Some))?,
            scope: scope.map(scopes).map_or(Some(None), |text| text.map(Some))?,
        })
    }
}

impl Identity {
    /// Which scopes somebody gets who is to have those of `asked`, or all of this one's if nothing is said. What is said twice
    /// counts once.
    ///
    /// # Errors
    /// The place of the first that this one does not have: nobody gives what they have not.
    pub fn lend(&self, asked: Option<&[String]>) -> Result<Vec<String>, usize> {
        let own: Vec<&str> = self.scope.as_deref().unwrap_or_default().split_whitespace().collect();
        let mut lent: Vec<String> = Vec::new();
        let asked: Vec<&str> = asked.map_or_else(|| own.clone(), |asked| asked.iter().map(String::as_str).collect());
        for (place, scope) in asked.into_iter().enumerate() {
            if !own.contains(&scope) {
                return Err(place);
            }
            if !lent.iter().any(|before| before == scope) {
                lent.push(scope.to_owned());
            }
        }
        Ok(lent)
    }
}

/// A claim; one that is null is not there.
fn given<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).filter(|value| !value.is_null())
}

/// A text that can be stored and shown.
fn text(text: &str) -> Option<String> {
    let usable = !text.trim().is_empty() && text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control);
    usable.then(|| text.to_owned())
}

fn scopes(given: &Value) -> Option<String> {
    let joined = match given {
        Value::String(text) => text.clone(),
        // A blank inside an element would make two scopes of one.
        Value::Array(list) => {
            let names = list.iter().map(|name| name.as_str().filter(|name| !name.contains(char::is_whitespace)));
            names.collect::<Option<Vec<_>>>()?.join(" ")
        }
        _ => return None,
    };
    let usable = joined.len() <= MAX_TEXT_BYTES && !joined.chars().any(char::is_control);
    usable.then_some(joined)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

    use serde_json::json;

    use super::*;

    const TENANT_CLAIMS: [&str; 3] = ["tenant", "org", "customer"];

    fn of(claims: &Value) -> Option<Identity> {
        Identity::from_claims(claims.as_object().unwrap(), TENANT_CLAIMS)
    }

    #[test]
    fn the_first_tenant_claim_that_is_there_counts() {
        for (claims, tenant) in [
            (json!({"sub": "u", "tenant": "acme", "org": "other"}), "acme"),
            (json!({"sub": "u", "org": "acme", "customer": "other"}), "acme"),
            (json!({"sub": "u", "customer": " acme "}), "acme"),
            (json!({"sub": "u", "tenant": null, "org": "acme"}), "acme"),
            (json!({"sub": "u", "tenant": ["acme", "other"]}), "acme"),
        ] {
            assert_eq!(of(&claims).unwrap().tenant.as_str(), tenant, "{claims}");
        }
    }

    #[test]
    fn scopes_are_read_in_every_form() {
        for (claims, scope) in [
            (json!({"scope": "a admin"}), Some("a admin")),
            (json!({"scp": ["a", "admin"]}), Some("a admin")),
            (json!({"scope": "a", "scp": "admin"}), Some("a")),
            (json!({"scope": ""}), Some("")),
            (json!({"scp": []}), Some("")),
            (json!({}), None),
        ] {
            let mut all = json!({"sub": "u", "tenant": "t"});
            all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
            assert_eq!(of(&all).unwrap().scope.as_deref(), scope, "{claims}");
        }
    }

    #[test]
    fn nobody_lends_a_scope_that_they_have_not() {
        let with = |scope: Option<&str>| Identity {
            tenant: Tenant::new("t").unwrap(),
            subject: "u".to_owned(),
            issuer: None,
            scope: scope.map(str::to_owned),
        };
        let lent = |scope, asked: &[&str]| {
            let asked: Vec<String> = asked.iter().map(|scope| (*scope).to_owned()).collect();
            with(scope).lend(Some(&asked)).map(|lent| lent.join(" "))
        };
        let chat = Some("chat  keys:manage chat");
        assert_eq!(with(chat).lend(None).unwrap(), ["chat", "keys:manage"]);
        assert!(with(None).lend(None).unwrap().is_empty());
        assert_eq!(lent(chat, &["chat", "chat"]), Ok("chat".to_owned()));
        assert_eq!(lent(chat, &[]), Ok(String::new()));
        for (scope, asked, place) in [
            (chat, &["chat", "admin"][..], 1),
            (chat, &["keys"], 0),
            (chat, &["Chat"], 0),
            (chat, &["chat keys:manage"], 0),
            (chat, &[""], 0),
            (chat, &[" chat"], 0),
            (None, &["chat"], 0),
        ] {
            assert_eq!(lent(scope, asked), Err(place), "{asked:?}");
        }
    }

    #[test]
    fn somebody_of_whom_a_part_is_unclear_is_nobody() {
        let fine = json!({"sub": "u", "tenant": "t", "iss": "https://id.example", "scope": "a"});
        assert_eq!(of(&fine).unwrap().issuer.as_deref(), Some("https://id.example"));
        for (name, value) in [
            ("sub", json!(null)),
            ("sub", json!("")),
            ("sub", json!(" ")),
            ("sub", json!(7)),
            ("sub", json!("a\nb")),
            ("sub", json!("a".repeat(MAX_TEXT_BYTES + 1))),
            ("tenant", json!(null)),
            ("tenant", json!("")),
            ("tenant", json!(7)),
            ("tenant", json!([])),
            ("tenant", json!([["t"]])),
            ("tenant", json!({"name": "t"})),
            ("tenant", json!("a\u{0}b")),
            ("tenant", json!("a".repeat(Tenant::MAX_CHARS + 1))),
            ("iss", json!(["https://id.example"])),
            ("scope", json!(7)),
            ("scope", json!(["a", 7])),
            ("scope", json!(["a admin"])),
            ("scope", json!("a\tadmin\n")),
        ] {
            let mut claims = fine.clone();
            claims[name] = value;
            assert_eq!(of(&claims), None, "{claims}");
        }
    }
}
