//! Where in Vault a secret is.

use std::{fmt, str::FromStr};

/// A field of a secret. It is written `mount/path#field`, and `mount//path#field` where the mount's own name has slashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Where the engine is mounted, such as `secret`.
    pub mount: String,
    /// The secret's path there.
    pub path: String,
    /// Which of its fields.
    pub field: String,
}

/// What is not the name of a place. It is no secret, and yet not repeated: somebody may have written the secret there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no place in Vault, such as secret/somaagent#jwt_secret")]
pub struct NoPlace;

impl Place {
    /// A place by its parts.
    ///
    /// # Errors
    /// They name none.
    pub fn new(mount: &str, path: &str, field: &str) -> Result<Self, NoPlace> {
        let [mount, path] = [mount, path].map(|part| part.trim().trim_matches('/'));
        let field = field.trim();
        let is_name = |name: &str| {
            !matches!(name, "" | "." | "..") && name.bytes().all(|b| b.is_ascii_graphic() && !b"?%#\\".contains(&b))
        };
        let is_fine = mount.split('/').chain(path.split('/')).all(is_name) && !field.is_empty();
        let place = || Self { mount: mount.to_owned(), path: path.to_owned(), field: field.to_owned() };
        is_fine.then(place).ok_or(NoPlace)
    }
}

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (place, field) = text.split_once('#').ok_or(NoPlace)?;
        let place = place.trim().trim_start_matches('/');
        let (mount, path) = place.split_once("//").or_else(|| place.split_once('/')).ok_or(NoPlace)?;
        Self::new(mount, path, field)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.mount.contains('/') { "//" } else { "/" };
        write!(f, "{}{between}{}#{}", self.mount, self.path, self.field)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn a_place_is_a_mount_a_path_and_a_field() {
        for (text, mount, path, field) in [
            ("secret/gateway#key", "secret", "gateway", "key"),
            ("secret/team/gateway#jwt key", "secret", "team/gateway", "jwt key"),
            ("team/kv//gateway/prod#key", "team/kv", "gateway/prod", "key"),
            (" /secret/gateway/#key ", "secret", "gateway", "key"),
        ] {
            let place: Place = text.parse().unwrap();
            assert_eq!((&*place.mount, &*place.path, &*place.field), (mount, path, field), "{text}");
            assert_eq!(place.to_string().parse(), Ok(place));
        }
    }

    #[test]
    fn what_leads_elsewhere_is_no_place() {
        for text in ["", "secret", "secret#k", "secret/#k", "secret/g", "secret/g#", "#k", "secret/../sys/raw#k"] {
            assert_eq!(text.parse::<Place>(), Err(NoPlace), "{text}");
        }
        for text in ["secret/a?version=1#k", "secret/a%2fb#k", "secret/a b#k", "secret/a\nb#k", "s/a//b//c#k"] {
            assert_eq!(text.parse::<Place>(), Err(NoPlace), "{text}");
        }
    }
}
