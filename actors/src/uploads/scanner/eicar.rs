//! Proves that infected bytes are found, by the one string that every scanner calls infected and that harms nobody.

use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::{sync::mpsc, time::timeout};

use super::{
    ScanError, Scanners, Verdict,
    session::Session,
    settings::{AntivirusSettings, Limits},
    target::Address,
    wire::Signatures,
};
use crate::uploads::rules::Antivirus;

/// The test string of EICAR from its end to its beginning: in its right order scanners would find it in this program.
const BACKWARDS: &[u8] = br"*H+H$!ELIF-TSET-SURIVITNA-DRADNATS-RACIE$}7)CC7)^P(45XZP\4[PA@%P!O5X";
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

    /// How old the signatures are, where that is known.
    #[must_use]
    pub fn signatures_age(&self) -> Option<Duration> {
        let built_at = self.signatures.as_ref().ok()?.built_at?;
        Some((self.at - built_at).try_into().unwrap_or_default())
    }
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
            let late = |_| ScanError::TimedOut { step: "come to a verdict", within: WITHIN };
            timeout(WITHIN, judged).await.map_err(late)?
        };
        let harmless = Bytes::from_static(HARMLESS);
        let (eicar, clean, signatures) = tokio::join!(scan(test_string()), scan(harmless), self.signatures(&address));
        Ok(Report { tried, eicar, clean, signatures, at: (self.inner.clock)() })
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
        let (pieces, mut receiver) = mpsc::channel(1);
        // There is room for one piece, and the scan ends with it.
        drop(pieces.try_send(bytes));
        drop(pieces);
        Session::open(&address, limits).await?.scan(&mut receiver).await.map(|(verdict, _)| verdict)
    };
    let signatures = async { Session::open(&address, limits).await?.signatures().await };
    let (eicar, clean, signatures) = tokio::join!(scan(test_string()), scan(Bytes::from_static(HARMLESS)), signatures);
    Report { tried, eicar, clean, signatures, at }
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
