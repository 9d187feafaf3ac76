#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use futures_util::stream;
use prometheus::{Registry, TextEncoder};

use super::*;

fn extractor(settings: ExtractionSettings) -> Extractor {
    Extractor::new("/nowhere/at/all".into(), settings)
}

#[tokio::test(start_paused = true)]
async fn whoever_finds_no_place_in_time_is_told() {
    let registry = Registry::new();
    let settings = ExtractionSettings { places: 0, ..ExtractionSettings::default() };
    let extractor = extractor(settings).counted(ExtractionMetrics::register(&registry).unwrap());
    let place = extractor.places.acquire().await.unwrap();
    let error = extractor.text(TextKind::Plain, stream::pending()).await.unwrap_err();
    assert_eq!(error.code(), "busy");
    drop(place);
    let error = extractor.picture(Purpose::Thumbnail, stream::pending()).await.unwrap_err();
    assert_eq!(error.code(), "start");
    let page = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        "extraction_failures_total{code=\"busy\"} 1\n",
        "extraction_failures_total{code=\"start\"} 1\n",
        "extraction_failures_total{code=\"crashed\"} 0\n",
        "extraction_seconds_count{wanted=\"thumbnail\"} 1\n",
    ] {
        assert!(page.contains(line), "{page}");
    }
}
