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
    let settings = ExtractionSettings { places: 0, thumbnail_places: 1, ..ExtractionSettings::default() };
    let extractor = extractor(settings).counted(ExtractionMetrics::register(&registry).unwrap());
    let place = extractor.places.place("a").await.unwrap();
    let error = extractor.text(TextKind::Plain, stream::pending()).await.unwrap_err();
    assert_eq!(error.code(), "busy");
    let error = extractor.picture(Purpose::Thumbnail, stream::pending()).await.unwrap_err();
    assert_eq!(error.code(), "start");
    drop(place);
    let place = extractor.thumbnail_places.place("a").await.unwrap();
    let begun = Instant::now();
    let error = extractor.picture(Purpose::Thumbnail, stream::pending()).await.unwrap_err();
    assert_eq!((error.code(), begun.elapsed().as_secs()), ("busy", 5));
    let error = extractor.picture(Purpose::Model, stream::pending()).await.unwrap_err();
    assert_eq!(error.code(), "start");
    drop(place);
    let page = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        "extraction_failures_total{code=\"busy\"} 2\n",
        "extraction_failures_total{code=\"start\"} 2\n",
        "extraction_failures_total{code=\"crashed\"} 0\n",
        "extraction_seconds_count{wanted=\"thumbnail\"} 1\n",
    ] {
        assert!(page.contains(line), "{page}");
    }
}
