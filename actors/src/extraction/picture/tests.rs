#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{Frame, GenericImageView, ImageEncoder, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage, load_from_memory};

use super::*;

const PIXELS: u64 = 40_000_000;

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Red on the left, blue on the right.
fn halves(width: u32, height: u32) -> DynamicImage {
    let image =
        RgbImage::from_fn(width, height, |x, _| if x < width / 2 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) });
    DynamicImage::ImageRgb8(image)
}

fn is_red(pixel: Rgba<u8>) -> bool {
    pixel[0] > 200 && pixel[2] < 60
}

#[test]
fn each_format_gives_a_webp_that_fits() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP] {
        let thumbnail = of(&encoded(&halves(1000, 500), format), Purpose::Thumbnail, PIXELS).unwrap();
        assert_eq!((thumbnail.width, thumbnail.height), (320, 160), "{format:?}");
        assert!(
            Purpose::Thumbnail.is_format_of(&thumbnail.bytes)
                && thumbnail.bytes.len() <= Purpose::Thumbnail.bytes_max()
        );
        let seen = load_from_memory(&thumbnail.bytes).unwrap();
        assert!(is_red(seen.get_pixel(10, 80)) && !is_red(seen.get_pixel(310, 80)), "{format:?}");
    }
}

#[test]
fn a_model_gets_a_larger_jpeg_and_what_shines_through_is_white() {
    let picture = of(&encoded(&halves(2000, 1000), ImageFormat::Png), Purpose::Model, PIXELS).unwrap();
    assert_eq!((picture.width, picture.height), (1024, 512));
    assert!(Purpose::Model.is_format_of(&picture.bytes) && picture.bytes.len() <= Purpose::Model.bytes_max());
    assert!(is_red(load_from_memory(&picture.bytes).unwrap().get_pixel(10, 80)));
    let clear = DynamicImage::ImageRgba8(RgbaImage::from_pixel(8, 8, Rgba([0, 0, 0, 0])));
    let picture = of(&encoded(&clear, ImageFormat::Png), Purpose::Model, PIXELS).unwrap();
    assert!(load_from_memory(&picture.bytes).unwrap().get_pixel(4, 4)[0] > 250);
}

#[test]
fn a_small_image_keeps_its_size_and_a_thin_one_its_edge() {
    let size = |width, height| {
        let thumbnail = of(&encoded(&halves(width, height), ImageFormat::Png), Purpose::Thumbnail, PIXELS).unwrap();
        (thumbnail.width, thumbnail.height)
    };
    assert_eq!(size(3, 2), (3, 2));
    assert_eq!(size(5000, 2), (320, 1));
}

#[test]
fn transparency_is_kept() {
    let image = DynamicImage::ImageRgba8(RgbaImage::from_pixel(400, 400, Rgba([1, 2, 3, 0])));
    let thumbnail = of(&encoded(&image, ImageFormat::Png), Purpose::Thumbnail, PIXELS).unwrap();
    assert_eq!(load_from_memory(&thumbnail.bytes).unwrap().get_pixel(5, 5)[3], 0);
}

#[test]
fn a_picture_of_a_turned_camera_stands_upright() {
    let mut jpeg = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, 90);
    // Big-endian TIFF with one entry: orientation 6, to be turned clockwise.
    let exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    encoder.set_exif_metadata(exif.to_vec()).unwrap();
    halves(800, 400).write_with_encoder(encoder).unwrap();
    let thumbnail = of(&jpeg, Purpose::Thumbnail, PIXELS).unwrap();
    assert_eq!((thumbnail.width, thumbnail.height), (160, 320));
    let seen = load_from_memory(&thumbnail.bytes).unwrap();
    assert!(is_red(seen.get_pixel(80, 10)) && !is_red(seen.get_pixel(80, 310)));
}

#[test]
fn of_a_moving_image_the_first_picture_counts() {
    let mut gif = Vec::new();
    let frame = |color| Frame::new(RgbaImage::from_pixel(40, 40, color));
    GifEncoder::new(&mut gif).encode_frames([frame(Rgba([250, 0, 0, 255])), frame(Rgba([0, 0, 250, 255]))]).unwrap();
    let thumbnail = of(&gif, Purpose::Thumbnail, PIXELS).unwrap();
    assert!(is_red(load_from_memory(&thumbnail.bytes).unwrap().get_pixel(20, 20)));
}

/// The first bytes of a PNG that says it is this large.
fn giant(width: u32, height: u32) -> Vec<u8> {
    let mut png = encoded(&halves(1, 1), ImageFormat::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    png
}

/// CRC-32 as PNG has it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

#[test]
fn an_image_that_says_it_is_giant_is_not_decoded() {
    assert!(matches!(of(&giant(60_000, 60_000), Purpose::Thumbnail, PIXELS), Err(Refusal::TooLarge(_))));
    assert!(matches!(
        of(&giant(u32::MAX >> 1, 1), Purpose::Thumbnail, PIXELS),
        Err(Refusal::TooLarge(_) | Refusal::OutOfMemory)
    ));
}

#[test]
fn what_is_no_image_is_refused() {
    assert!(matches!(of(b"", Purpose::Thumbnail, PIXELS), Err(Refusal::Unsupported(_))));
    assert!(matches!(
        of(b"<svg xmlns='http://www.w3.org/2000/svg'/>", Purpose::Thumbnail, PIXELS),
        Err(Refusal::Unsupported(_))
    ));
    for format in [ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP] {
        let whole = encoded(&halves(100, 100), format);
        assert!(
            matches!(of(&whole[..whole.len() / 2], Purpose::Thumbnail, PIXELS), Err(Refusal::Malformed(_))),
            "{format:?}"
        );
    }
}
