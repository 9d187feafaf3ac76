//! Small pictures of images.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::webp::WebPEncoder;
use image::error::{ImageError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use super::error::Refusal;

/// Longest edge of a thumbnail, in pixels.
pub(super) const EDGE: u32 = 320;

/// Longest thumbnail, in bytes: WebP packs without loss, at worst a little above four bytes for each pixel.
pub(super) const BYTES_MAX: usize = (EDGE * EDGE * 5) as usize;

/// Most bytes a decoder may ask for, for each pixel: four channels of two bytes, once decoded and once on the way.
const BYTES_A_PIXEL: u64 = 16;

/// An image that fits into 320 × 320 pixels, in WebP, upright, with its transparency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// The image, `image/webp`.
    pub webp: Bytes,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// Whether these bytes say that they are WebP.
pub(super) fn is_webp(bytes: &[u8]) -> bool {
    bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP")
}

/// Makes the thumbnail of a PNG, JPEG, GIF or WebP, known by its first bytes; of one that moves, the first picture.
pub(super) fn of(content: &[u8], max_pixels: u64) -> Result<Thumbnail, Refusal> {
    let (image, orientation) = decode(content, max_pixels)?;
    // Never larger than it is: that would only blur it.
    let mut small = if image.width().max(image.height()) > EDGE { image.thumbnail(EDGE, EDGE) } else { image };
    small.apply_orientation(orientation);
    let small = if small.color().has_alpha() {
        DynamicImage::ImageRgba8(small.into_rgba8())
    } else {
        DynamicImage::ImageRgb8(small.into_rgb8())
    };
    let mut webp = Vec::new();
    small.write_with_encoder(WebPEncoder::new_lossless(&mut webp)).map_err(|error| refusal(&error))?;
    Ok(Thumbnail { webp: webp.into(), width: small.width(), height: small.height() })
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
