//! The header `Forwarded` (RFC 7239), and addresses as proxies write them.

use std::net::{IpAddr, SocketAddr};

use super::Scheme;

/// What one proxy says of the request that it got. Nothing where it says nothing, or nothing that can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hop {
    /// Whom it got the request from.
    pub(super) address: Option<IpAddr>,
    /// How.
    pub(super) scheme: Option<Scheme>,
    /// For which host.
    pub(super) host: Option<String>,
}

/// The elements of a list, in their order. One that cannot be read says nothing; a text that has no end of a quotation says
/// nothing at all, for nobody could say where its elements end.
pub(super) fn elements(list: &str) -> Vec<Hop> {
    let Some(parts) = split(list, ',') else { return Vec::new() };
    parts.iter().map(|part| element(part).unwrap_or_default()).collect()
}

fn element(text: &str) -> Option<Hop> {
    let mut hop = Hop::default();
    let mut seen = Vec::new();
    for pair in split(text, ';')?.iter().map(|pair| pair.trim()).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (name.to_ascii_lowercase(), unquoted(value)?);
        match name.as_str() {
            "for" => hop.address = address(&value),
            "proto" => hop.scheme = Scheme::parse(&value),
            "host" => hop.host = Some(value),
            _ => {}
        }
        // A parameter that is there twice says nothing (§4).
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
    }
    Some(hop)
}

/// The parts of a text between separators outside of quotations; none if a quotation does not end.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, char) in text.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if char == separator && !quoted => {
                parts.push(&text[from..at]);
                from = at + char.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    (!quoted).then_some(parts)
}

/// A token as it is, or what is quoted (RFC 9110 §5.6.4).
fn unquoted(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        let is_token = !value.is_empty() && !value.contains(['"', ' ', '\t']);
        return is_token.then(|| value.to_owned());
    };
    let (mut text, mut chars) = (String::new(), inner.strip_suffix('"')?.chars());
    while let Some(char) = chars.next() {
        match char {
            '\\' => text.push(chars.next()?),
            '"' => return None,
            char => text.push(char),
        }
    }
    Some(text)
}

/// An address with or without a port; `unknown` and made-up names (RFC 7239 §6.2, §6.3) are none.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}
