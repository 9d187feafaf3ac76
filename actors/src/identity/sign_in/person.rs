//! Who it is that the provider has sent back.

use serde_json::{Map, Value};

use super::settings::OidcSettings;
use crate::domain::identity::Identity;

/// Longest name that is kept, in characters.
const MAX_NAME_CHARS: usize = 120;

/// Somebody who has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who they are.
    pub identity: Identity,
    /// What they are called, for their own eyes.
    pub name: Option<String>,
}

/// Why a token of the provider's makes nobody known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It names no tenant or no subject.
    Nobody,
    /// Their tenant may not sign in here.
    NotHere,
}

impl Person {
    /// Reads the claims of a token that was proved. The tenant is what a token of this service may name it by, or else the domain
    /// of an e-mail address that the provider says is theirs.
    pub(super) fn of(
        mut claims: Map<String, Value>,
        settings: &OidcSettings,
        tenant_claims: &[String],
    ) -> Result<Self, Unknown> {
        // Some providers write the truth as a text.
        let is_verified = matches!(claims.get("email_verified"), Some(Value::Bool(true)))
            || claims.get("email_verified").and_then(Value::as_str) == Some("true");
        let email = claims.get("email").and_then(Value::as_str).filter(|_| is_verified).map(str::to_owned);
        let names_tenant = tenant_claims.iter().any(|name| claims.get(name).is_some_and(|value| !value.is_null()));
        let domain = email.as_deref().and_then(|email| email.rsplit_once('@')).map(|(_, domain)| domain.to_lowercase());
        // Not a claim: one of that name counts for nothing.
        let by_domain = "email domain";
        claims.remove(by_domain);
        if let Some(domain) = domain.filter(|_| settings.tenant_from_email_domain && !names_tenant) {
            claims.insert(by_domain.to_owned(), domain.into());
        }
        let names = tenant_claims.iter().map(String::as_str).chain([by_domain]);
        let mut identity = Identity::from_claims(&claims, names).ok_or(Unknown::Nobody)?;
        if !settings.allows(identity.tenant.as_str()) {
            return Err(Unknown::NotHere);
        }
        if settings.is_admin(&identity.subject, email.as_deref()) {
            let before = identity.scope.take().unwrap_or_default();
            identity.scope = Some(format!("{before} admin").trim().to_owned());
        }
        let called =
            |name: &str| claims.get(name).and_then(Value::as_str).map(str::trim).filter(|name| !name.is_empty());
        let name = called("name").or_else(|| called("preferred_username")).or(email.as_deref());
        let name = name.map(|name| name.chars().filter(|letter| !letter.is_control()).take(MAX_NAME_CHARS).collect());
        Ok(Self { identity, name })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use serde_json::json;

    use super::*;

    fn person(claims: &Value, settings: &OidcSettings) -> Result<(String, Option<String>, Option<String>), Unknown> {
        let claims = claims.as_object().unwrap().clone();
        let person = Person::of(claims, settings, &["tenant".to_owned(), "org".to_owned()])?;
        let Identity { tenant, scope, .. } = person.identity;
        Ok((tenant.as_str().to_owned(), scope, person.name))
    }

    #[test]
    fn the_tenant_is_a_claim_or_the_domain_of_a_proved_address() {
        let on = OidcSettings::default();
        let off = OidcSettings { tenant_from_email_domain: false, ..OidcSettings::default() };
        let ann = json!({"sub": "u", "email": "Ann@Tea.Example", "email_verified": true, "name": " Ann\u{7} "});
        assert_eq!(person(&ann, &on).unwrap(), ("tea.example".to_owned(), None, Some("Ann".to_owned())));
        assert_eq!(person(&ann, &off), Err(Unknown::Nobody));
        let mut claimed = ann.clone();
        claimed["org"] = json!("acme");
        assert_eq!(person(&claimed, &on).unwrap().0, "acme");
        for unproved in [json!(false), json!(null), json!("false"), json!(1)] {
            let mut ann = ann.clone();
            ann["email_verified"] = unproved;
            assert_eq!(person(&ann, &on), Err(Unknown::Nobody), "{ann}");
        }
        // A claim of a curious name is not the domain of an address.
        assert_eq!(person(&json!({"sub": "u", "email domain": "acme"}), &off).ok(), None);
    }

    #[test]
    fn who_is_an_admin_the_settings_say() {
        let settings =
            OidcSettings { admins: "ann@acme".to_owned(), tenants: "acme".to_owned(), ..OidcSettings::default() };
        let ann = json!({"sub": "u", "email": "ann@acme", "email_verified": true, "scope": "chat"});
        assert_eq!(person(&ann, &settings).unwrap().1.as_deref(), Some("chat admin"));
        let mut unproved = ann.clone();
        unproved["email_verified"] = json!(false);
        unproved["tenant"] = json!("acme");
        assert_eq!(person(&unproved, &settings).unwrap().1.as_deref(), Some("chat"));
        let mut stranger = ann;
        stranger["tenant"] = json!("evil");
        assert_eq!(person(&stranger, &settings), Err(Unknown::NotHere));
    }
}
