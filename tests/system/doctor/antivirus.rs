//! What `somaagent doctor` says of the clamd that scans uploads.

use somaagent_test_services::clamd::{Clamd, EICAR};
use somaagent_test_services::process::Binary;

use super::Told;
use crate::stack::binary;

const CLAMD: (&str, &str) = ("antivirus", "clamd");

fn scanning(place: &(String, u16)) -> Binary {
    let (host, port) = place;
    binary().set("CLAMAV_ENABLED", "true").set("CLAMAV_HOST", host).set("CLAMAV_PORT", &port.to_string())
}

#[tokio::test]
async fn a_clamd_that_finds_the_test_string_is_well_and_one_that_is_away_is_a_fault() {
    Told::by(&binary()).await.has(CLAMD, "skipped", "CLAMAV_ENABLED");
    let clamd = Clamd::start(&[]).unwrap();
    let binary = scanning(&clamd.place()).set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", "15000");
    let well = Told::by(&binary).await;
    well.has(CLAMD, "ok", EICAR);
    well.has(("antivirus", "signatures"), "note", "does not tell of which day");
    let lax = Clamd::start(&["AlertExceedsMax no"]).unwrap();
    let lax = Told::by(&scanning(&lax.place()).set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", "15000")).await;
    lax.has(("antivirus", "limits"), "warning", "AlertExceedsMax");
    clamd.stop().unwrap();
    let away = Told::by(&binary).await;
    away.has(CLAMD, "fault", "CLAMAV_HOST");
    away.has(("antivirus", "signatures"), "skipped", "did not tell");
    let elsewhere = scanning(&("http://clamav:3310".to_owned(), 3310));
    Told::by(&elsewhere).await.has(("configuration", "refused"), "fault", "antivirus.host");
}
