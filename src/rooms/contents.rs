//! What is in the files that people have sent, read by processes of their own.

use anyhow::Context;
use somaagent_actors::{
    contents::Contents,
    extraction::{ExtractionMetrics, Extractor},
    store::Store,
};

use super::now;
use crate::{boot::Base, extraction};

/// Has files of `store` read. Nothing is started before the first of them.
pub(super) fn read(base: &Base, store: Store) -> anyhow::Result<Contents> {
    let program = extraction::program().context("this program, to be started once more")?;
    let metrics = ExtractionMetrics::register(&base.registry)?;
    let extractor = Extractor::new(program, base.config.extraction.clone()).counted(metrics);
    Ok(Contents::new(store, extractor, now))
}
