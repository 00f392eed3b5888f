//! Pictures in files of their own: PNG, JPEG and WebP, told by their content.

use std::path::Path;

use image::{ImageReader, Limits};

use super::Picture;

/// No picture is decoded that is wider or higher, whatever its file says.
const LARGEST: u32 = 16_384;
/// Nor one that takes more memory than this while it is decoded.
const BYTES: u64 = 1 << 30;

/// The picture in a file.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence: it cannot be read, is of no known kind, damaged or too large.
pub fn open(file: &Path) -> std::result::Result<Picture, String> {
    let reader = ImageReader::open(file).and_then(ImageReader::with_guessed_format);
    let mut reader = reader.map_err(|fault| format!("cannot be read: {fault}"))?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(LARGEST), Some(LARGEST));
    limits.max_alloc = Some(BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(|fault| format!("cannot be decoded: {fault}"))?.into_rgb8();
    Ok(Picture { width: image.width(), height: image.height(), rgb: image.into_raw() })
}
