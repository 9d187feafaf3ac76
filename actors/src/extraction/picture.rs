//! Smaller pictures of images.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::error::{ImageError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, Rgb, RgbImage, RgbaImage};
use serde::{Deserialize, Serialize};

use super::error::Refusal;

/// How much a model's picture may differ from what it was made of, of 100: what a model reads off it stays readable.
const QUALITY: u8 = 85;

/// Most bytes a decoder may ask for, for each pixel: four channels of two bytes, once decoded and once on the way.
const BYTES_A_PIXEL: u64 = 16;

/// What a picture is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// For people, in a list: it fits into 320 × 320 pixels, in WebP, with its transparency.
    Thumbnail,
    /// For a model to look at: it fits into 1024 × 1024 pixels, in JPEG, which every endpoint takes, on white.
    Model,
}

impl Purpose {
    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thumbnail => "thumbnail",
            Self::Model => "model",
        }
    }

    /// The media type of its pictures.
    #[must_use]
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Thumbnail => "image/webp",
            Self::Model => "image/jpeg",
        }
    }

    /// Longest edge, in pixels.
    pub(super) const fn edge(self) -> u32 {
        match self {
            Self::Thumbnail => 320,
            Self::Model => 1024,
        }
    }

    /// Longest picture, in bytes: WebP packs without loss, at worst a little above four bytes for each pixel.
    pub(super) const fn bytes_max(self) -> usize {
        (self.edge() * self.edge() * 5) as usize
    }

    /// Whether these bytes say that they are what they should be.
    pub(super) fn is_format_of(self, bytes: &[u8]) -> bool {
        match self {
            Self::Thumbnail => bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
            Self::Model => bytes.starts_with(b"\xff\xd8\xff"),
        }
    }
}

/// An image that is as small as its purpose wants it, upright.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The image, of [`Purpose::mime`].
    pub bytes: Bytes,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// Makes a picture of a PNG, JPEG, GIF or WebP, known by its first bytes; of one that moves, the first picture.
pub(super) fn of(content: &[u8], purpose: Purpose, max_pixels: u64) -> Result<Picture, Refusal> {
    let (image, orientation) = decode(content, max_pixels)?;
    let edge = purpose.edge();
    // Never larger than it is: that would only blur it.
    let mut small = if image.width().max(image.height()) > edge { image.thumbnail(edge, edge) } else { image };
    small.apply_orientation(orientation);
    let (width, height) = (small.width(), small.height());
    let mut bytes = Vec::new();
    let written = match (purpose, small.color().has_alpha()) {
        (Purpose::Thumbnail, true) => {
            DynamicImage::ImageRgba8(small.into_rgba8()).write_with_encoder(WebPEncoder::new_lossless(&mut bytes))
        }
        (Purpose::Thumbnail, false) => {
            DynamicImage::ImageRgb8(small.into_rgb8()).write_with_encoder(WebPEncoder::new_lossless(&mut bytes))
        }
        (Purpose::Model, has_alpha) => {
            let opaque = if has_alpha { on_white(&small.into_rgba8()) } else { small.into_rgb8() };
            opaque.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))
        }
    };
    written.map_err(|error| refusal(&error))?;
    Ok(Picture { bytes: bytes.into(), width, height })
}

/// The image as it looks on white.
fn on_white(image: &RgbaImage) -> RgbImage {
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0.map(u32::from);
        // A mean of two bytes is one.
        let over = |color: u32| u8::try_from((color * alpha + 255 * (255 - alpha)) / 255).unwrap_or(u8::MAX);
        Rgb([over(red), over(green), over(blue)])
    })
}

fn decode(content: &[u8], max_pixels: u64) -> Result<(DynamicImage, Orientation), Refusal> {
    let reader = ImageReader::new(Cursor::new(content)).with_guessed_format();
    let mut reader = reader.map_err(|_| Refusal::malformed("it is no image"))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(max_pixels.saturating_mul(BYTES_A_PIXEL));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| refusal(&error))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > max_pixels {
        return Err(Refusal::TooLarge(format!("{width} × {height} pixels, at most {max_pixels} in all")));
    }
    // What tells how the camera was held is no reason to show nothing.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| refusal(&error))?;
    Ok((image, orientation))
}

fn refusal(error: &ImageError) -> Refusal {
    match error {
        ImageError::Unsupported(_) => Refusal::Unsupported("an image that is no PNG, JPEG, GIF or WebP".to_owned()),
        ImageError::Limits(limit) if matches!(limit.kind(), LimitErrorKind::DimensionError) => {
            Refusal::TooLarge("more pixels than an image may have".to_owned())
        }
        ImageError::Limits(_) => Refusal::OutOfMemory,
        _ => Refusal::malformed("the image is broken"),
    }
}

#[cfg(test)]
mod tests;
