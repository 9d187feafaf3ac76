//! clamd's protocol without I/O: what is sent, and what the answers mean (`man 8 clamd`).
//!
//! Commands of a session are counted from 1, and every answer begins with the number of its command. Only whole sentences
//! that are known count; everything else is [`ScanError::Protocol`].

use std::fmt;

use time::{OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description};

use super::{ScanError, Verdict};

/// Opens a session: more than one command on a connection.
pub(super) const BEGIN: &[u8] = b"zIDSESSION\0";
pub(super) const VERSION: &[u8] = b"zVERSION\0";
pub(super) const INSTREAM: &[u8] = b"zINSTREAM\0";
/// What ends a stream: a piece of no bytes.
pub(super) const END: &[u8] = &[0; 4];

/// Longest answer; names of signatures are far shorter.
pub(super) const MAX_ANSWER_BYTES: usize = 1024;
/// Most bytes in one piece of a stream.
pub(super) const MAX_PIECE_BYTES: u32 = 1 << 20;
/// How much of an unreadable answer is told.
const SHOWN_CHARS: usize = 80;

/// Names of signatures that say that clamd did not look at everything.
const LIMITS: &str = "Heuristics.Limits.Exceeded";
/// What clamd says to a stream over its `StreamMaxLength`.
const TOO_LONG: &str = "INSTREAM size limit exceeded.";

/// How clamd writes the day of its signatures.
const DAY: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]");

/// Which signatures clamd has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    /// The program and its version, such as `ClamAV 1.4.6`.
    pub engine: String,
    /// Number of the database of signatures; none where only signatures of one's own are loaded.
    pub database: Option<u32>,
    /// When that was made. clamd tells no time zone: taken as UTC, and so up to half a day wrong.
    pub built_at: Option<OffsetDateTime>,
}

impl fmt::Display for Signatures {
    /// What tells one version from another: `ClamAV 1.4.6/27400`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.database {
            Some(number) => write!(f, "{}/{number}", self.engine),
            None => f.write_str(&self.engine),
        }
    }
}

/// The verdict in the answer to the command of this number.
pub(super) fn verdict(id: u32, answer: &[u8]) -> Result<Verdict, ScanError> {
    let said = said(id, answer)?;
    if said.strip_suffix(" ERROR") == Some(TOO_LONG) {
        return Ok(Verdict::LimitsExceeded { what: TOO_LONG.trim_end_matches('.').to_owned() });
    }
    let of_stream = said.strip_prefix("stream: ");
    if let Some(what) = of_stream.unwrap_or(said).strip_suffix(" ERROR") {
        return Err(ScanError::Refused(shown(what)));
    }
    let Some(found) = of_stream else { return Err(unreadable(answer)) };
    if found == "OK" {
        return Ok(Verdict::Clean);
    }
    match found.strip_suffix(" FOUND") {
        Some(name) if is_name(name) && name.starts_with(LIMITS) => {
            Ok(Verdict::LimitsExceeded { what: name.to_owned() })
        }
        Some(name) if is_name(name) => Ok(Verdict::Infected { signature: name.to_owned() }),
        _ => Err(unreadable(answer)),
    }
}

/// Which signatures clamd has, by the answer to the command of this number: `ClamAV 1.4.6/27400/Sat Sep 20 08:35:01 2025`.
pub(super) fn signatures(id: u32, answer: &[u8]) -> Result<Signatures, ScanError> {
    let said = said(id, answer)?;
    let mut parts = said.splitn(3, '/');
    let engine = parts.next().filter(|engine| engine.starts_with("ClamAV ")).ok_or_else(|| unreadable(answer))?;
    let database = parts.next().map(str::parse).transpose().map_err(|_| unreadable(answer))?;
    let built_at = parts.next().map(|day| PrimitiveDateTime::parse(day, DAY)).transpose();
    let built_at = built_at.map_err(|_| unreadable(answer))?.map(PrimitiveDateTime::assume_utc);
    Ok(Signatures { engine: engine.to_owned(), database, built_at })
}

/// What was said in the answer to the command of this number.
fn said(id: u32, answer: &[u8]) -> Result<&str, ScanError> {
    let text = std::str::from_utf8(answer).ok().filter(|text| !text.contains(char::is_control));
    let said = text.and_then(|text| text.strip_prefix(&format!("{id}: ")));
    said.ok_or_else(|| unreadable(answer))
}

fn is_name(name: &str) -> bool {
    !name.trim().is_empty()
}

fn unreadable(answer: &[u8]) -> ScanError {
    ScanError::Protocol(shown(&String::from_utf8_lossy(answer)))
}

/// The beginning of a text in one line of letters that harm nobody who reads them.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn infected(signature: &str) -> Verdict {
        Verdict::Infected { signature: signature.to_owned() }
    }

    fn exceeded(what: &str) -> Verdict {
        Verdict::LimitsExceeded { what: what.to_owned() }
    }

    #[test]
    fn whole_answers_are_verdicts() {
        for (answer, means) in [
            ("2: stream: OK", Verdict::Clean),
            ("2: stream: Win.Test.EICAR_HDB-1 FOUND", infected("Win.Test.EICAR_HDB-1")),
            ("2: stream: Name(44d88612:68) FOUND", infected("Name(44d88612:68)")),
            ("2: stream: OK FOUND", infected("OK")),
            (
                "2: stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND",
                exceeded("Heuristics.Limits.Exceeded.MaxFileSize"),
            ),
            ("2: INSTREAM size limit exceeded. ERROR", exceeded("INSTREAM size limit exceeded")),
        ] {
            assert_eq!(verdict(2, answer.as_bytes()), Ok(means), "{answer}");
        }
    }

    #[test]
    fn errors_of_clamd_are_told_in_its_words() {
        for (answer, what) in [
            ("2: stream: Can't allocate memory ERROR", "Can\\'t allocate memory"),
            ("2: Command invalid inside IDSESSION. ERROR", "Command invalid inside IDSESSION."),
            ("2: COMMAND READ TIMED OUT ERROR", "COMMAND READ TIMED OUT"),
        ] {
            assert_eq!(verdict(2, answer.as_bytes()), Err(ScanError::Refused(what.to_owned())), "{answer}");
        }
    }

    #[test]
    fn what_is_not_known_is_no_verdict() {
        for answer in [
            "",
            "OK",
            "stream: OK",
            "2: OK",
            "2: stream: ok",
            "2: stream: OK ",
            "2:  stream: OK",
            "2: stream: OK\n",
            "2: file: OK",
            "02: stream: OK",
            "1: stream: OK",
            "22: stream: OK",
            "2: stream:  FOUND",
            "2: stream: Name",
            "2: stream: FOUND",
            "2: FOUND",
            "2: stream: Na\u{7}me FOUND",
            "2: PONG",
            "HTTP/1.1 400 Bad Request",
        ] {
            assert!(matches!(verdict(2, answer.as_bytes()), Err(ScanError::Protocol(_))), "{answer:?}");
        }
        assert!(matches!(verdict(2, b"2: stream: \xff FOUND"), Err(ScanError::Protocol(_))));
    }

    #[test]
    fn an_unreadable_answer_is_shown_shortened_and_harmless() {
        let answer = format!("\u{1b}[2J{}", "x".repeat(5_000));
        let error = verdict(1, answer.as_bytes()).unwrap_err().to_string();
        assert!(error.len() < 200 && !error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn signatures_are_told_with_their_day_where_there_is_one() {
        let official = signatures(3, b"3: ClamAV 1.4.6/27400/Sat Sep 20 08:35:01 2025").unwrap();
        assert_eq!((official.engine.as_str(), official.database), ("ClamAV 1.4.6", Some(27_400)));
        assert_eq!(official.built_at, Some(datetime!(2025-09-20 08:35:01 UTC)));
        let single = signatures(3, b"3: ClamAV 0.103.12/27111/Mon Sep  1 08:35:01 2025").unwrap();
        assert_eq!(single.built_at, Some(datetime!(2025-09-01 08:35:01 UTC)));
        let own = signatures(3, b"3: ClamAV 1.4.6").unwrap();
        assert_eq!((own.database, own.built_at), (None, None));
        for bad in ["3: PONG", "3: ClamAV 1/x/Sat Sep 20 08:35:01 2025", "3: ClamAV 1/27400/soon", "ClamAV 1.4.6"] {
            assert!(matches!(signatures(3, bad.as_bytes()), Err(ScanError::Protocol(_))), "{bad}");
        }
    }

    #[test]
    fn signatures_are_known_by_program_and_number_and_only_from_the_answer_to_this_command() {
        let told = |answer: &[u8]| signatures(7, answer).map(|told| told.to_string());
        assert_eq!(told(b"7: ClamAV 1.4.6/27400/Sat Sep 20 08:35:01 2025").as_deref(), Ok("ClamAV 1.4.6/27400"));
        assert_eq!(told(b"7: ClamAV 1.4.6").as_deref(), Ok("ClamAV 1.4.6"));
        assert!(told(b"6: ClamAV 1.4.6").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_but_the_one_sentence_are_clean(answer in proptest::collection::vec(any::<u8>(), 0..64), id in 1..9_u32) {
            let clean = verdict(id, &answer) == Ok(Verdict::Clean);
            prop_assert_eq!(clean, answer == format!("{id}: stream: OK").into_bytes());
        }
    }
}
