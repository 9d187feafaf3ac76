//! Parts, and what is made of them (`Upload-Concat`).

use somaagent_actors::uploads::tus::MAX_PARTS;
use uuid::Uuid;

use super::PATH;
use crate::{extract::bad_header, problem::Problem};

const HEADER: &str = "Upload-Concat";

/// What an upload has to do with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Concat {
    /// It is a part of them.
    Partial,
    /// It is made of these, in this order.
    Final(Vec<Uuid>),
}

/// Reads the header. Parts are named by where they are, wherever a proxy in front of this shows that.
///
/// # Errors
/// It is not written like that, or names what cannot be an upload, or too many.
pub(crate) fn concat(text: &str) -> Result<Concat, Problem> {
    if text == "partial" {
        return Ok(Concat::Partial);
    }
    let places =
        text.strip_prefix("final;").ok_or_else(|| bad_header(HEADER, "must be partial, or final and parts"))?;
    let ids: Option<Vec<Uuid>> = places.split_ascii_whitespace().map(id).collect();
    let ids = ids.ok_or_else(|| bad_header(HEADER, "must name parts by where they are"))?;
    if ids.is_empty() || ids.len() > MAX_PARTS {
        return Err(bad_header(HEADER, &format!("must name 1 to {MAX_PARTS} parts")));
    }
    Ok(Concat::Final(ids))
}

/// The upload that is at `place`.
fn id(place: &str) -> Option<Uuid> {
    let (before, id) = place.rsplit_once('/')?;
    let is_ours = before.ends_with(PATH.trim_end_matches('/')) && !before.contains(',');
    is_ours.then(|| Uuid::try_parse(id).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_by_where_they_are() {
        let [a, b] = [1, 2].map(Uuid::from_u128);
        for text in [
            format!("final;{PATH}{a} {PATH}{b}"),
            format!("final;https://soma.example{PATH}{a} {PATH}{b}"),
            format!("final;/behind/a/proxy{PATH}{a}  {PATH}{b} "),
        ] {
            assert_eq!(concat(&text).ok(), Some(Concat::Final(vec![a, b])), "{text}");
        }
        assert_eq!(concat(&format!("final;{PATH}{a} {PATH}{a}")).ok(), Some(Concat::Final(vec![a, a])));
        assert_eq!(concat("partial").ok(), Some(Concat::Partial));
    }

    #[test]
    fn what_names_no_parts_is_refused() {
        let a = Uuid::from_u128(1);
        let many = vec![format!("{PATH}{a}"); MAX_PARTS + 1].join(" ");
        for wrong in [
            String::new(),
            "Partial".to_owned(),
            "partial;".to_owned(),
            "final".to_owned(),
            "final;".to_owned(),
            "final; ".to_owned(),
            format!("final {PATH}{a}"),
            format!("final;{a}"),
            format!("final;/v1/uploads/{a}"),
            format!("final;{PATH}{a}/finalize"),
            format!("final;{PATH}{a}?x"),
            format!("final;{PATH}x"),
            format!("final;{PATH}{a},{PATH}{a}"),
            format!("final;{many}"),
        ] {
            assert!(concat(&wrong).is_err(), "{wrong}");
        }
    }
}
