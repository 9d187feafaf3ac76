//! What a message refers to.

use std::fmt;

use serde_json::Value;
use somaagent_actors::{conversation::RefusedReference, domain::caller::Caller, uploads::downloads::Found};
use uuid::Uuid;

use crate::{door::Door, extract::wrong, problem::Problem};

/// Most references of one message.
const MAX_REFERENCES: usize = 32;

/// An attachment that a message names, and where in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    id: Uuid,
    place: usize,
}

impl Reference {
    fn read((place, text): (usize, &String)) -> Result<Self, Problem> {
        let id = ["att://", "/v1/attachments/"].iter().find_map(|prefix| text.strip_prefix(prefix));
        let id = Uuid::try_parse(id.unwrap_or(text));
        let id = id.map_err(|_| wrong(loc(place), "must be a UUID, /v1/attachments/<uuid> or att://<uuid>"))?;
        Ok(Self { id, place })
    }
}

/// As events write it.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "att://{}", self.id)
    }
}

fn loc(place: usize) -> Vec<Value> {
    vec!["attachments".into(), place.into()]
}

/// The references in a list, each once.
pub(super) fn read(list: &[String]) -> Result<Vec<Reference>, Problem> {
    if list.len() > MAX_REFERENCES {
        return Err(wrong(vec!["attachments".into()], &format!("must be at most {MAX_REFERENCES}")));
    }
    let mut read: Vec<Reference> = Vec::with_capacity(list.len());
    for reference in list.iter().enumerate().map(Reference::read) {
        let reference = reference?;
        if read.iter().all(|earlier| earlier.id != reference.id) {
            read.push(reference);
        }
    }
    Ok(read)
}

/// The first that does not exist for `caller`, or that nobody gets.
pub(super) async fn refused(
    door: &Door,
    caller: &Caller,
    references: &[Reference],
) -> Result<Option<RefusedReference>, Problem> {
    if references.is_empty() {
        return Ok(None);
    }
    let found = door.attachments.find_all(caller, references.iter().map(|reference| reference.id).collect()).await?;
    for (reference, found) in references.iter().zip(found) {
        let why = match found {
            Found::Here(attachment) if attachment.status != "clean" => "is quarantined",
            Found::Here(attachment) if attachment.blob_id.is_some() || attachment.external_url.is_some() => continue,
            Found::Here(_) | Found::Gone => "is gone",
            Found::Unknown => "does not exist",
        };
        return Ok(Some(RefusedReference { place: reference.place, why }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;
    use crate::problem::Code;

    const ID: &str = "7b0d4cb2-5d3c-4f2e-9a55-8f3f3b1f6a01";

    #[test]
    fn a_reference_has_three_forms_and_is_told_once() {
        let list = [ID.to_owned(), format!("att://{ID}"), format!("/v1/attachments/{}", ID.to_uppercase())];
        let told: Vec<String> = read(&list).unwrap().iter().map(Reference::to_string).collect();
        assert_eq!(told, [format!("att://{ID}")]);
        for text in ["", "att://", "a.txt", "/etc/passwd", "file:///etc/passwd", "att://att://", "https://h/x"] {
            let problem = read(&[ID.to_owned(), text.to_owned()]).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidBody, "{text}");
            assert!(problem.to_string().starts_with("body.attachments.1: "), "{problem}");
        }
        assert!(read(&vec![ID.to_owned(); MAX_REFERENCES]).is_ok());
        assert_eq!(read(&vec![ID.to_owned(); MAX_REFERENCES + 1]).unwrap_err().code(), Code::InvalidBody);
    }
}
