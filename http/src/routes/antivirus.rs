//! Whether uploads are scanned, by trying it.

use actix_web::web::{Data, Json};
use serde::Serialize;
use somaagent_actors::uploads::{
    rules::Antivirus,
    scanner::{Report, Standing, Tried, Verdict},
};
use utoipa::ToSchema;

use crate::{door::Door, wire::timestamp};

/// How it stands with the antivirus.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct AntivirusTestReply {
    /// Whether infected bytes are found.
    status: AntivirusStatus,
    /// Name or address of clamd's machine.
    host: String,
    /// clamd's port.
    port: u16,
    /// What is wrong; absent if nothing is, or nothing was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// What came of EICAR's test string, which should be infected; absent if nothing was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    eicar: Option<TriedReply>,
    /// What came of a harmless text; absent if nothing was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    clean: Option<TriedReply>,
    /// What came of archives in archives, deeper than clamd looks: that should be told, not called clean; absent if nothing was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    nested: Option<TriedReply>,
    /// clamd's signatures; absent if nothing was tried, or clamd did not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    signatures: Option<SignaturesReply>,
    /// How busy the scanners are.
    scanners: ScannersReply,
}

/// Whether infected bytes are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AntivirusStatus {
    /// EICAR's test string is found, and nothing in a harmless text.
    Ok,
    /// The same, but what clamd does not look at, because it is too deep or too large, is called clean.
    Degraded,
    /// The antivirus is off: nothing was tried.
    Disabled,
    /// Uploads get no verdict, or a wrong one.
    Error,
}

/// What came of a scan.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct TriedReply {
    /// The verdict, or `error`.
    result: ScanResult,
    /// Name of the signature, of the limit, or why there is no verdict; absent for `clean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// A verdict, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ScanResult {
    /// Nothing was found.
    Clean,
    /// A signature fits.
    Infected,
    /// clamd did not look at everything.
    LimitsExceeded,
    /// There is no verdict.
    Error,
}

/// clamd's signatures.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct SignaturesReply {
    /// clamd and its version.
    engine: String,
    /// Number of the database; null where only signatures of one's own are loaded.
    database: Option<u32>,
    /// When it was made, up to half a day wrong, because clamd tells no time zone; null where clamd does not tell.
    built_at: Option<String>,
    /// How long ago that is; null where clamd does not tell.
    age_seconds: Option<u64>,
}

/// How busy the scanners are.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ScannersReply {
    /// How many there are.
    total: u32,
    /// How many of them have a scan.
    busy: usize,
    /// `closed`; `open` while clamd is left alone because it did not answer; `half-open` while it is tried again.
    breaker: &'static str,
}

/// Has a string scanned that every scanner calls infected, one that is harmless, and archives in archives, deeper than clamd looks; tells
/// all verdicts and how old the signatures are. Takes 20 seconds at most and a little more than that while all scanners are busy.
#[utoipa::path(
    get,
    path = "/v1/av/test",
    tag = "admin",
    responses((status = 200, description = "What came of it", body = AntivirusTestReply)),
    extensions(("x-action" = json!("admin.antivirus.test"))),
)]
pub(crate) async fn get_test(door: Data<Door>) -> Json<AntivirusTestReply> {
    let report = door.scanners.test().await;
    let standing = door.scanners.standing();
    // Nothing but that it is off keeps it from being tried.
    Json(report.map_or_else(|_| untried(&door.scanners.in_force(), standing), |report| told(&report, standing)))
}

fn untried(target: &Antivirus, standing: Standing) -> AntivirusTestReply {
    AntivirusTestReply {
        status: AntivirusStatus::Disabled,
        host: target.host.clone(),
        port: target.port,
        detail: None,
        eicar: None,
        clean: None,
        nested: None,
        signatures: None,
        scanners: scanners(standing),
    }
}

fn told(report: &Report, standing: Standing) -> AntivirusTestReply {
    let (status, detail) = match (report.fault(), report.blind_spot()) {
        (Some(fault), _) => (AntivirusStatus::Error, Some(fault)),
        (None, Some(blind)) => (AntivirusStatus::Degraded, Some(blind)),
        (None, None) => (AntivirusStatus::Ok, None),
    };
    let signatures = report.signatures.as_ref().ok().map(|signatures| SignaturesReply {
        engine: signatures.engine.clone(),
        database: signatures.database,
        built_at: signatures.built_at.map(timestamp),
        age_seconds: report.signatures_age().map(|age| age.as_secs()),
    });
    let Antivirus { host, port, .. } = report.tried.clone();
    let [eicar, clean, nested] = [&report.eicar, &report.clean, &report.nested].map(|came| Some(tried(came)));
    AntivirusTestReply { status, host, port, detail, eicar, clean, nested, signatures, scanners: scanners(standing) }
}

fn tried(tried: &Tried) -> TriedReply {
    let (result, detail) = match tried {
        Ok(Verdict::Clean) => (ScanResult::Clean, None),
        Ok(Verdict::Infected { signature }) => (ScanResult::Infected, Some(signature.clone())),
        Ok(Verdict::LimitsExceeded { what }) => (ScanResult::LimitsExceeded, Some(what.clone())),
        Err(error) => (ScanResult::Error, Some(error.to_string())),
    };
    TriedReply { result, detail }
}

fn scanners(standing: Standing) -> ScannersReply {
    ScannersReply { total: standing.total, busy: standing.busy, breaker: standing.breaker.as_str() }
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;
    use serde_json::json;
    use somaagent_actors::{
        breaker::BreakerState,
        uploads::scanner::{ScanError, Signatures},
    };
    use time::macros::datetime;

    use super::*;
    use crate::testing::{ask, request};

    const STANDING: Standing = Standing { total: 10, busy: 1, breaker: BreakerState::Closed };

    fn report(eicar: Tried) -> Report {
        Report {
            tried: Antivirus { enabled: true, strict: false, host: "av".to_owned(), port: 3310 },
            eicar,
            clean: Ok(Verdict::Clean),
            nested: Ok(Verdict::LimitsExceeded { what: "MaxRecursion".to_owned() }),
            signatures: Ok(Signatures {
                engine: "ClamAV 1.4.6".to_owned(),
                database: Some(27_400),
                built_at: Some(datetime!(2025-09-20 08:00 UTC)),
            }),
            at: datetime!(2025-09-20 08:01 UTC),
        }
    }

    #[actix_web::test]
    async fn that_it_is_off_is_told_and_nothing_is_tried() {
        let answer = ask(request(Method::GET, "/v1/av/test")).await;
        assert_eq!(answer.status, 200);
        let expected = json!({
            "status": "disabled", "host": "clamav", "port": 3310,
            "scanners": {"total": 0, "busy": 0, "breaker": "closed"},
        });
        assert_eq!(answer.json(), expected);
    }

    #[test]
    fn both_verdicts_and_the_age_of_the_signatures_are_told() {
        let infected = Ok(Verdict::Infected { signature: "Eicar".to_owned() });
        let expected = json!({
            "status": "ok", "host": "av", "port": 3310,
            "eicar": {"result": "infected", "detail": "Eicar"}, "clean": {"result": "clean"},
            "nested": {"result": "limits_exceeded", "detail": "MaxRecursion"},
            "signatures": {
                "engine": "ClamAV 1.4.6", "database": 27_400, "built_at": "2025-09-20T08:00:00.000000Z", "age_seconds": 60,
            },
            "scanners": {"total": 10, "busy": 1, "breaker": "closed"},
        });
        assert_eq!(json!(told(&report(infected), STANDING)), expected);
    }

    #[test]
    fn a_clamd_that_calls_clean_what_it_did_not_look_at_is_degraded() {
        let infected = Ok(Verdict::Infected { signature: "Eicar".to_owned() });
        let reply = json!(told(&Report { nested: Ok(Verdict::Clean), ..report(infected) }, STANDING));
        assert_eq!((&reply["status"], &reply["nested"]["result"]), (&json!("degraded"), &json!("clean")));
        assert!(reply["detail"].as_str().is_some_and(|detail| detail.contains("AlertExceedsMax")), "{reply}");
    }

    #[test]
    fn a_scanner_that_lets_everything_through_is_an_error() {
        let reply = json!(told(&report(Ok(Verdict::Clean)), STANDING));
        assert_eq!((&reply["status"], &reply["eicar"]["result"]), (&json!("error"), &json!("clean")));
        assert!(reply["detail"].as_str().is_some_and(|detail| detail.contains("signatures")), "{reply}");
        let reply = json!(told(&report(Err(ScanError::Busy)), STANDING));
        assert_eq!((&reply["status"], &reply["eicar"]["result"]), (&json!("error"), &json!("error")));
    }
}
