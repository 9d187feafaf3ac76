//! The text of a PDF, by `hayro`: it has no unsafe code of its own, and finds the characters of every kind of font.
//! (`pdf-extract` panics on much of what is out there and writes to the output; `lopdf` knows few encodings; `pdf_oxide`
//! does far more than read; `pdfium` is C++, and not built with the rest.)

mod lines;

use hayro_interpret::font::GlyphRun;
use hayro_interpret::hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use hayro_interpret::kurbo::{Affine, BezPath, Rect};
use hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps, InterpreterCache,
    InterpreterSettings, SoftMask, interpret_page,
};

use self::lines::Lines;
use super::Pages;
use super::gathered::{Gap, Gathered};
use crate::extraction::error::Refusal;

/// Reads the first `max_pages` pages, or as many as fit. A document that opens without a password is no locked one.
pub(super) fn read(content: Vec<u8>, max_pages: u32, text: &mut Gathered) -> Result<Pages, Refusal> {
    let pdf = Pdf::new(content).map_err(|error| match error {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected | DecryptionError::UnsupportedAlgorithm) => {
            Refusal::Encrypted
        }
        LoadPdfError::Decryption(_) | LoadPdfError::Invalid => Refusal::malformed("it is no PDF, or a broken one"),
    })?;
    let pages = pdf.pages();
    let total = u32::try_from(pages.len()).unwrap_or(u32::MAX);
    let cache = InterpreterCache::new();
    let mut read = 0;
    for page in pages.iter().take(max_pages as usize) {
        if text.is_full() {
            break;
        }
        let area = Rect::new(0.0, 0.0, 1.0, 1.0);
        let settings = InterpreterSettings::default();
        let mut state = Context::new(Affine::IDENTITY, area, &cache, pdf.xref(), settings);
        interpret_page(page, &mut state, &mut Reader { lines: Lines::new(text) });
        text.gap(Gap::Blank);
        read += 1;
    }
    Ok(Pages { read, total })
}

/// Draws nothing, and notes the glyphs. What is drawn invisibly counts: so scanners lay text over their images.
struct Reader<'t> {
    lines: Lines<'t>,
}

impl Device<'_> for Reader<'_> {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, '_>, props: DrawProps<'_>, _: &DrawMode) {
        self.lines.run(run, props.transform);
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'_>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'_>>, _: BlendMode) {}
    fn draw_image(&mut self, _: Image<'_, '_>, _: ImageDrawProps<'_>) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}

#[cfg(test)]
mod tests;
