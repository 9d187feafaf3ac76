//! Which pages of other sites may use the API.

use actix_web::http::{Method, Uri, header::HeaderName};
use serde::Deserialize;

use super::listed;

/// Stands for all of them.
const ANY: &str = "*";

/// The section `cors` of the configuration. Each text is a list with commas; `*` alone stands for all.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorsSettings {
    /// Origins whose pages may use the API; empty: none but our own.
    pub origins: String,
    /// Methods that they may use.
    pub methods: String,
    /// Headers that they may send.
    pub headers: String,
    /// Headers of replies that they may read, besides those that all may.
    pub expose_headers: String,
    /// Whether what they send may rely on a cookie.
    pub credentials: bool,
}

impl Default for CorsSettings {
    fn default() -> Self {
        let any = || ANY.to_owned();
        Self {
            origins: String::new(),
            methods: any(),
            headers: any(),
            expose_headers: String::new(),
            credentials: false,
        }
    }
}

/// What a list stands for.
pub(crate) enum Named<T> {
    /// All there are.
    Any,
    /// These.
    These(Vec<T>),
}

impl<T> Named<T> {
    fn read(list: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Self, String> {
        if list.trim() == ANY {
            return Ok(Self::Any);
        }
        let parse = |text: &String| parse(text).ok_or_else(|| format!("{text:?}"));
        Ok(Self::These(listed(list).iter().map(parse).collect::<Result<_, _>>()?))
    }
}

impl CorsSettings {
    /// The origins.
    ///
    /// # Errors
    /// What is not written as browsers write it: scheme, host, and a port that is not the scheme's own.
    pub(crate) fn origins(&self) -> Result<Named<String>, String> {
        Named::read(&self.origins, origin)
    }

    /// The methods.
    ///
    /// # Errors
    /// What is none.
    pub(crate) fn methods(&self) -> Result<Named<Method>, String> {
        Named::read(&self.methods, |text| text.parse().ok())
    }

    /// The headers that may be sent.
    ///
    /// # Errors
    /// What is no name of one.
    pub(crate) fn headers(&self) -> Result<Named<HeaderName>, String> {
        Named::read(&self.headers, |text| text.parse().ok())
    }

    /// The headers that may be read.
    ///
    /// # Errors
    /// What is no name of one.
    pub(crate) fn expose_headers(&self) -> Result<Named<HeaderName>, String> {
        Named::read(&self.expose_headers, |text| text.parse().ok())
    }

    /// What would let in others than meant: the setting and what is wrong with it.
    #[must_use]
    pub fn faults(&self, require_auth: bool) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut unusable = |name, what: Option<String>, rule: &str| {
            faults.extend(what.map(|what| (name, format!("{what} is no {rule}"))));
        };
        unusable("origins", self.origins().err(), "origin as browsers write it, such as https://soma.example:8443");
        unusable("methods", self.methods().err(), "method");
        unusable("headers", self.headers().err(), "name of a header");
        unusable("expose_headers", self.expose_headers().err(), "name of a header");
        if matches!(self.origins(), Ok(Named::Any)) {
            if self.credentials {
                faults.push((
                    "credentials",
                    "is set, and every site could then act as whoever looks at it: name the origins".into(),
                ));
            }
            if !require_auth {
                faults.push((
                    "origins",
                    "is *, and nobody has to prove who they are: every site could then read everything".into(),
                ));
            }
        }
        faults
    }
}

fn origin(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let own_port = matches!((scheme, authority.port_u16()), ("http", Some(80)) | ("https", Some(443)));
    let plain = !own_port && !authority.as_str().contains('@') && text == text.to_ascii_lowercase();
    (plain && text == format!("{scheme}://{authority}")).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for text in ["https://soma.example", "http://localhost:3000", "https://[2001:db8::1]:8443", "tauri://localhost"]
        {
            assert_eq!(origin(text).as_deref(), Some(text));
        }
        for text in [
            "soma.example",
            "https://soma.example/",
            "https://soma.example/app",
            "https://SOMA.example",
            "https://soma.example:443",
            "https://ada@soma.example",
            "https://",
            "null",
            "*.example",
            "https://a, b",
        ] {
            assert_eq!(origin(text), None, "{text}");
        }
    }

    #[test]
    fn what_lets_in_others_than_meant_is_a_fault() {
        let faults = |origins: &str, credentials, require_auth| {
            let settings = CorsSettings { origins: origins.to_owned(), credentials, ..CorsSettings::default() };
            settings.faults(require_auth).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        for (origins, credentials, require_auth, expected) in [
            ("", true, false, &[][..]),
            ("https://a.example,http://b.example", true, false, &[]),
            ("*", false, true, &[]),
            ("*", true, true, &["credentials"]),
            ("*", true, false, &["credentials", "origins"]),
            ("https://a.example,*", false, true, &["origins"]),
        ] {
            assert_eq!(faults(origins, credentials, require_auth), expected, "{origins}");
        }
        let odd = CorsSettings {
            methods: "GET,P T".to_owned(),
            headers: "a b".to_owned(),
            expose_headers: ":".to_owned(),
            ..CorsSettings::default()
        };
        assert_eq!(odd.faults(true).len(), 3);
    }
}
