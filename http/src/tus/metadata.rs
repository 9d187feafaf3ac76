//! What a client says of an upload (`Upload-Metadata`): names, each with a value in base64 or with none.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use somaagent_actors::{domain::filename::sanitised, uploads::Declared};
use uuid::Uuid;

use crate::{extract::bad_header, problem::Problem};

const HEADER: &str = "Upload-Metadata";
/// Longest text of it: it is kept with the upload and told again.
const MAX_BYTES: usize = 4 << 10;
/// Longest name of a type.
pub(crate) const MAX_TYPE_BYTES: usize = 255;

/// What of it is understood here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    /// From `filename` and `filetype`; of the name what is safe to show and to save under.
    pub(crate) said: Declared,
    /// From `session_id`.
    pub(crate) session_id: Option<Uuid>,
}

/// Reads the header. Names that are not known here say nothing.
///
/// # Errors
/// It is longer than it may be, is not written like that, has a name twice, or a value that cannot be what its name says.
pub(crate) fn metadata(text: &str) -> Result<Metadata, Problem> {
    let wrong = |why: &str| bad_header(HEADER, why);
    if text.len() > MAX_BYTES {
        return Err(wrong(&format!("must be at most {MAX_BYTES} bytes")));
    }
    let (mut read, mut names) = (Metadata::default(), HashSet::new());
    for pair in text.split(',') {
        // After a comma some clients leave a blank.
        let pair = pair.trim_start_matches(' ');
        let (name, value) = pair.split_once(' ').unwrap_or((pair, ""));
        if name.is_empty() {
            return Err(wrong("must have a name in each pair"));
        }
        if !names.insert(name) {
            return Err(wrong("must have each name once"));
        }
        let value = STANDARD.decode(value).map_err(|_| wrong("must have values in base64"))?;
        let text =
            || std::str::from_utf8(&value).map_err(|_| wrong("must have a filename, filetype and session_id in UTF-8"));
        match name {
            "filename" => read.said.filename = Some(sanitised(text()?)),
            "filetype" => {
                read.said.mime = Some(file_type(text()?).ok_or_else(|| wrong("must have a filetype that is one"))?);
            }
            "session_id" => {
                let id = text()?;
                let id = (!id.is_empty()).then(|| Uuid::try_parse(id)).transpose();
                read.session_id = id.map_err(|_| wrong("must have a session_id that is a UUID"))?;
            }
            _ => {}
        }
    }
    Ok(read)
}

/// What may be the name of a type: short, and nothing but what can be seen.
pub(crate) fn file_type(text: &str) -> Option<String> {
    let is_one = text.len() <= MAX_TYPE_BYTES && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    is_one.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: impl AsRef<[u8]>) -> String {
        format!("{name} {}", STANDARD.encode(value))
    }

    #[test]
    fn names_have_values_in_base64_or_none() {
        let id = Uuid::from_u128(7);
        let text = [
            pair("filename", "../größe.txt"),
            pair("filetype", "text/plain; charset=utf-8"),
            pair("session_id", id.to_string()),
            pair("other", [0xff, 0]),
            "is_public".to_owned(),
        ];
        for between in [",", ", "] {
            let read = metadata(&text.join(between)).unwrap_or_default();
            assert_eq!(read.said.filename.as_deref(), Some("größe.txt"));
            assert_eq!(read.said.mime.as_deref(), Some("text/plain; charset=utf-8"));
            assert_eq!(read.session_id, Some(id));
        }
        let read = metadata("filename,session_id").unwrap_or_default();
        assert_eq!((read.said.filename.as_deref(), read.session_id), (Some("file"), None));
        assert_eq!(metadata(&pair("filename", "a\0b")).unwrap_or_default().said.filename.as_deref(), Some("ab"));
    }

    #[test]
    fn what_is_not_written_like_that_is_refused() {
        for wrong in [
            String::new(),
            ",".to_owned(),
            "a,".to_owned(),
            ",a".to_owned(),
            "a,,b".to_owned(),
            "filename a".to_owned(),
            "filename YQ".to_owned(),
            "filename YQ== YQ==".to_owned(),
            "filename  YQ==".to_owned(),
            "filename _-__".to_owned(),
            [pair("a", "b"), pair("a", "b")].join(","),
            pair("filename", [0xff, 0xfe]),
            pair("filetype", "text/\nplain"),
            pair("filetype", "größe"),
            pair("filetype", "x".repeat(MAX_TYPE_BYTES + 1)),
            pair("session_id", "mine"),
            pair("session_id", " "),
            pair("other", "x".repeat(MAX_BYTES)),
        ] {
            assert!(metadata(&wrong).is_err(), "{wrong}");
        }
    }
}
