//! Words and lines out of glyphs and their places: a PDF knows neither.

use hayro_interpret::font::{Glyph, GlyphRun};
use hayro_interpret::hayro_cmap::{BfString, WritingMode};
use hayro_interpret::kurbo::{Affine, Point, Vec2};

use crate::extraction::text::gathered::{Gap, Gathered};

/// The em of a glyph, in its own units.
const EM: f64 = 1000.0;

/// Parts of an em, seen along and across the line.
const SPACE: f64 = 0.2;
const COLUMN: f64 = 1.5;
const LINE: f64 = 0.5;
const PARAGRAPH: f64 = 1.9;
/// Nearer than this, the same text once more is the same text drawn bold.
const SAME: f64 = 0.15;

pub(super) struct Lines<'t> {
    text: &'t mut Gathered,
    /// Where the last glyph ended.
    last: Option<Placed>,
    /// The first glyph of the last run, and what that run said.
    run: Option<(Placed, String)>,
}

/// A glyph on the page.
#[derive(Clone, Copy)]
struct Placed {
    origin: Point,
    end: Point,
    /// Along the line, of length 1.
    along: Vec2,
    em: f64,
}

impl<'t> Lines<'t> {
    pub(super) const fn new(text: &'t mut Gathered) -> Self {
        Self { text, last: None, run: None }
    }

    /// Notes a run of glyphs, which `page` brings to their places on the page.
    pub(super) fn run(&mut self, run: &GlyphRun<'_, '_>, page: Affine) {
        let said: String = run.glyphs().iter().filter_map(|glyph| glyph.as_unicode()).map(string).collect();
        let Some(first) = run.glyphs().first().map(|glyph| placed(glyph, page * glyph.transform())) else { return };
        let again = self
            .run
            .as_ref()
            .is_some_and(|(before, text)| *text == said && (first.origin - before.origin).hypot() < SAME * first.em);
        if again {
            return;
        }
        for (number, glyph) in run.glyphs().iter().enumerate() {
            let place = placed(glyph, page * glyph.transform());
            let down = run.writing_mode() == WritingMode::Vertical;
            match self.last {
                // Top to bottom, each glyph is below the one before it.
                Some(_) if down => self.text.gap(if number == 0 { Gap::Line } else { Gap::None }),
                Some(last) => self.text.gap(gap(last, place)),
                None => {}
            }
            if let Some(said) = glyph.as_unicode() {
                self.text.words(&string(said));
            }
            self.last = Some(place);
        }
        self.run = Some((first, said));
    }
}

fn string(said: BfString) -> String {
    match said {
        BfString::Char(character) => character.to_string(),
        BfString::String(string) => string,
    }
}

fn placed(glyph: &Glyph<'_>, transform: Affine) -> Placed {
    let width = match glyph {
        Glyph::Outline(glyph) => glyph.advance_width(),
        Glyph::Type3(glyph) => glyph.advance_width(),
    };
    let origin = transform * Point::ZERO;
    let across = transform * Point::new(EM, 0.0) - origin;
    Placed {
        origin,
        end: transform * Point::new(width.map_or(EM / 2.0, f64::from), 0.0),
        along: across.normalize(),
        em: (transform * Point::new(0.0, EM) - origin).hypot(),
    }
}

/// What is between two glyphs that are drawn one after the other.
fn gap(last: Placed, next: Placed) -> Gap {
    let step = next.origin - last.end;
    let em = last.em.max(next.em);
    let (along, across) = (step.dot(last.along) / em, step.cross(last.along).abs() / em);
    // What cannot be placed is not a number, and compares with nothing.
    if across > PARAGRAPH {
        Gap::Blank
    } else if across > LINE || along < -1.0 {
        Gap::Line
    } else if along > COLUMN {
        Gap::Tab
    } else if along > SPACE {
        Gap::Space
    } else {
        Gap::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f64, y: f64, width: f64) -> Placed {
        Placed { origin: Point::new(x, y), end: Point::new(x + width, y), along: Vec2::new(1.0, 0.0), em: 10.0 }
    }

    #[test]
    fn places_tell_words_columns_and_lines() {
        let last = at(100.0, 100.0, 5.0);
        for (next, expected) in [
            (at(105.0, 100.0, 5.0), Gap::None),
            (at(104.0, 103.0, 5.0), Gap::None),
            (at(108.0, 100.0, 5.0), Gap::Space),
            (at(150.0, 100.0, 5.0), Gap::Tab),
            (at(20.0, 100.0, 5.0), Gap::Line),
            (at(20.0, 88.0, 5.0), Gap::Line),
            (at(20.0, 60.0, 5.0), Gap::Blank),
            (at(f64::NAN, f64::INFINITY, 5.0), Gap::None),
        ] {
            assert_eq!(gap(last, next), expected, "{:?}", next.origin);
        }
    }

    #[test]
    fn a_line_may_go_upwards() {
        let up = |y: f64| Placed {
            origin: Point::new(50.0, y),
            end: Point::new(50.0, y + 5.0),
            along: Vec2::new(0.0, 1.0),
            em: 10.0,
        };
        assert_eq!(gap(up(0.0), up(5.0)), Gap::None);
        assert_eq!(gap(up(0.0), up(8.0)), Gap::Space);
    }
}
