//! Proves that infected bytes are found, by the one string that every scanner calls infected and that harms nobody.

use std::{
    io::{Cursor, Write as _},
    time::Duration,
};

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::{sync::mpsc, time::timeout};
use zip::{CompressionMethod, ZipWriter, result::ZipError, write::SimpleFileOptions};

use super::{
    COME_TO_A_VERDICT, ScanError, Scanners, Verdict,
    session::Session,
    settings::{AntivirusSettings, Limits},
    target::Address,
    wire::Signatures,
};
use crate::uploads::rules::Antivirus;

/// The test string of EICAR from its end to its beginning: in its right order scanners would find it in this program.
const BACKWARDS: &[u8] = br"*H+H$!ELIF-TSET-SURIVITNA-DRADNATS-RACIE$}7)CC7)^P(45XZP\4[PA@%P!O5X";
/// So many archives, each in the next one, are more than any clamd may be set to open: 100 at most.
const LEVELS: u32 = 130;
/// What no signature fits.
const HARMLESS: &[u8] = b"This text is harmless.\n";
/// How long the verdict on each may take: somebody waits for it.
const WITHIN: Duration = Duration::from_secs(20);

/// What came of the test.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was tried.
    pub tried: Antivirus,
    /// The verdict on EICAR's test string, which should be infected.
    pub eicar: Tried,
    /// The verdict on a text that should be clean.
    pub clean: Tried,
    /// The verdict on archives in archives, deeper than clamd looks, which should be that nobody knows what is in it.
    pub nested: Tried,
    /// Which signatures clamd has.
    pub signatures: Result<Signatures, ScanError>,
    /// When all this was seen.
    pub at: OffsetDateTime,
}

/// What came of one scan.
pub type Tried = Result<Verdict, ScanError>;

impl Report {
    /// What is wrong; nothing if infected bytes are found and others are not.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        match (&self.eicar, &self.clean) {
            (Err(error), _) | (_, Err(error)) => Some(error.to_string()),
            (Ok(Verdict::Infected { .. }), Ok(Verdict::Clean)) => None,
            (Ok(Verdict::Infected { .. }), Ok(_)) => Some("clamd finds fault with a harmless text".to_owned()),
            (Ok(_), _) => {
                Some("clamd does not know EICAR's test string: it has no signatures, or none that count".to_owned())
            }
        }
    }

    /// What clamd does not look at and calls clean all the same, if it does.
    #[must_use]
    pub fn blind_spot(&self) -> Option<String> {
        blind_spot(&self.nested)
    }

    /// How old the signatures are, where that is known.
    #[must_use]
    pub fn signatures_age(&self) -> Option<Duration> {
        let built_at = self.signatures.as_ref().ok()?.built_at?;
        Some((self.at - built_at).try_into().unwrap_or_default())
    }
}

/// What clamd does not look at, by its verdict on what is deeper than it looks. No verdict at all lets nothing through.
fn blind_spot(nested: &Tried) -> Option<String> {
    matches!(nested, Ok(Verdict::Clean)).then(|| {
        "clamd calls clean what it did not look at, because it is too deep or too large: set AlertExceedsMax in clamd.conf".to_owned()
    })
}

/// Harmless archives in archives, which are not compressed.
fn nested() -> Bytes {
    let mut inner = HARMLESS.to_vec();
    for _ in 0..LEVELS {
        match enclosed(&inner) {
            Ok(outer) => inner = outer,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "an archive in memory could not be made");
                break;
            }
        }
    }
    inner.into()
}

/// An archive of one file.
fn enclosed(bytes: &[u8]) -> Result<Vec<u8>, ZipError> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("a", SimpleFileOptions::default().compression_method(CompressionMethod::Stored))?;
    archive.write_all(bytes)?;
    Ok(archive.finish()?.into_inner())
}

/// What was seen of clamd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Which signatures it has.
    pub signatures: Signatures,
    /// What it does not look at and calls clean all the same.
    pub blind_spot: Option<String>,
}

/// EICAR's test string.
#[must_use]
pub fn test_string() -> Bytes {
    BACKWARDS.iter().rev().copied().collect::<Vec<_>>().into()
}

impl Scanners {
    /// Has the scanners scan a string that should be infected and one that should be clean. clamd is asked even while the breaker
    /// leaves it alone.
    ///
    /// # Errors
    /// [`ScanError::Off`]; nothing was tried.
    pub async fn test(&self) -> Result<Report, ScanError> {
        let tried = self.in_force();
        if !tried.enabled {
            return Err(ScanError::Off);
        }
        let address = Address::of(&tried);
        let scan = async |bytes: Bytes| {
            let judged = async {
                let mut scan = self.open_anyway(address.clone()).await?;
                scan.feed(bytes).await?;
                scan.verdict().await
            };
            let late = |_| ScanError::TimedOut { step: COME_TO_A_VERDICT, within: WITHIN };
            timeout(WITHIN, judged).await.map_err(late)?
        };
        let harmless = Bytes::from_static(HARMLESS);
        let (eicar, clean, nested, signatures) =
            tokio::join!(scan(test_string()), scan(harmless), scan(nested()), self.signatures(&address));
        self.saw(&nested);
        Ok(Report { tried, eicar, clean, nested, signatures, at: (self.inner.clock)() })
    }

    /// Looks which signatures clamd has, and whether it tells of what it does not look at, by a connection of its own.
    ///
    /// # Errors
    /// [`ScanError`]: clamd is away, or off.
    pub async fn watch(&self) -> Result<Watched, ScanError> {
        let address = self.address().ok_or(ScanError::Off)?;
        let session = Session::open(&address, self.inner.deps.limits).await?;
        let signatures = session.signatures().clone();
        let verdict = session.scan(&mut all_of(nested())).await.map(|(verdict, _)| verdict);
        self.saw(&verdict);
        Ok(Watched { signatures, blind_spot: blind_spot(&verdict) })
    }

    fn saw(&self, nested: &Tried) {
        // Who gave no verdict has said nothing of it.
        if nested.is_ok() {
            *self.inner.blind_spot.lock() = blind_spot(nested);
        }
    }
}

/// The same by connections of its own, for whoever sets clamd up: no scanner has to be there. Connecting and waiting for a verdict
/// may take `within` each.
pub async fn look(settings: &AntivirusSettings, within: Duration, at: OffsetDateTime) -> Report {
    let limits = settings.limits();
    let limits = Limits { connect: within.min(limits.connect), write: within, answer: within, ..limits };
    let tried = settings.target();
    let address = Address::of(&tried);
    let scan = async |bytes: Bytes| {
        Session::open(&address, limits).await?.scan(&mut all_of(bytes)).await.map(|(verdict, _)| verdict)
    };
    let signatures = async { Ok(Session::open(&address, limits).await?.signatures().clone()) };
    let (eicar, clean, nested, signatures) =
        tokio::join!(scan(test_string()), scan(Bytes::from_static(HARMLESS)), scan(nested()), signatures);
    Report { tried, eicar, clean, nested, signatures, at }
}

/// A stream of one piece.
fn all_of(bytes: Bytes) -> mpsc::Receiver<Bytes> {
    let (pieces, receiver) = mpsc::channel(1);
    // There is room for one piece, and the stream ends with it.
    drop(pieces.try_send(bytes));
    receiver
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn report(eicar: Tried, clean: Tried) -> Report {
        let built_at = Some(datetime!(2025-09-20 08:00 UTC));
        Report {
            tried: AntivirusSettings::default().target(),
            eicar,
            clean,
            nested: Ok(Verdict::LimitsExceeded { what: "MaxRecursion".to_owned() }),
            signatures: Ok(Signatures { engine: "ClamAV 1".to_owned(), database: Some(1), built_at }),
            at: datetime!(2025-09-20 09:00 UTC),
        }
    }

    #[test]
    fn only_an_infected_and_a_clean_one_are_right() {
        let infected = || Ok(Verdict::Infected { signature: "Eicar".to_owned() });
        assert_eq!(report(infected(), Ok(Verdict::Clean)).fault(), None);
        for (eicar, clean) in [
            (Ok(Verdict::Clean), Ok(Verdict::Clean)),
            (infected(), infected()),
            (infected(), Err(ScanError::Busy)),
            (Err(ScanError::Busy), Ok(Verdict::Clean)),
            (Ok(Verdict::LimitsExceeded { what: "size".to_owned() }), Ok(Verdict::Clean)),
        ] {
            assert!(report(eicar.clone(), clean.clone()).fault().is_some(), "{eicar:?} {clean:?}");
        }
    }

    #[test]
    fn a_clamd_that_calls_clean_what_it_did_not_look_at_has_a_blind_spot() {
        let told = report(Ok(Verdict::Infected { signature: "Eicar".to_owned() }), Ok(Verdict::Clean));
        assert_eq!(told.blind_spot(), None);
        let lax = Report { nested: Ok(Verdict::Clean), ..told.clone() };
        assert!(lax.fault().is_none() && lax.blind_spot().is_some_and(|told| told.contains("AlertExceedsMax")));
        assert_eq!(Report { nested: Err(ScanError::Busy), ..told }.blind_spot(), None);
        let bytes = nested();
        assert!(bytes.starts_with(b"PK") && bytes.windows(HARMLESS.len()).any(|part| part == HARMLESS));
        assert!((10_000..100_000).contains(&bytes.len()), "{}", bytes.len());
    }

    #[test]
    fn the_age_is_what_lies_between_their_day_and_now() {
        let told = report(Ok(Verdict::Clean), Ok(Verdict::Clean));
        assert_eq!(told.signatures_age(), Some(Duration::from_hours(1)));
        assert_eq!(
            Report { at: datetime!(2025-09-20 07:00 UTC), ..told.clone() }.signatures_age(),
            Some(Duration::ZERO)
        );
        assert_eq!(Report { signatures: Err(ScanError::Busy), ..told }.signatures_age(), None);
    }

    #[test]
    fn the_test_string_is_that_of_eicar() {
        let string = test_string();
        assert_eq!((string.len(), &string[..6]), (68, &b"X5O!P%"[..]));
        assert!(string.ends_with(b"H+H*"));
    }
}
