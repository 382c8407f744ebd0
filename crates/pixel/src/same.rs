//! Whether two instances show the same pixels.

use dataset::Instance;

use crate::{Error, Limits, decode, frames::PixelData};

/// Whether two instances have the same samples in every frame, whatever their transfer syntaxes: a lossless encoding of an
/// image is the same image, one with loss is not.
///
/// Errors when one of them cannot be decoded, so that there is no telling.
pub fn same_pixels(first: &Instance, second: &Instance, limits: &Limits) -> Result<bool, Error> {
    if first.header.has_pixel_data() != second.header.has_pixel_data() {
        return Ok(false);
    }
    if !first.header.has_pixel_data() || same_bytes(first, second)? {
        return Ok(true);
    }
    let mut frame = 0;
    loop {
        let (one, other) = (decode(first, frame, limits)?, decode(second, frame, limits)?);
        if one.image.frames != other.image.frames
            || one.photometric != other.photometric
            || one.samples != other.samples
        {
            return Ok(false);
        }
        frame += 1;
        if frame >= one.image.frames {
            return Ok(true);
        }
    }
}

/// Whether the pixel data itself is the same in the same transfer syntax: then nothing needs to be decoded.
fn same_bytes(first: &Instance, second: &Instance) -> Result<bool, Error> {
    let compressed = |instance: &Instance| instance.header.transfer_syntax.uid().starts_with("1.2.840.10008.1.2.4.");
    let syntaxes = (first.header.transfer_syntax, second.header.transfer_syntax);
    match (PixelData::of(first)?, PixelData::of(second)?) {
        (PixelData::Encapsulated(first), PixelData::Encapsulated(second)) if syntaxes.0 == syntaxes.1 => {
            Ok(first.fragments() == second.fragments())
        }
        (PixelData::Native(one), PixelData::Native(other)) if !compressed(first) && !compressed(second) => {
            // In pieces: those of a large file are on the disk.
            const PIECE: usize = 4 << 20;
            let length = one.byte_length();
            if length != other.byte_length() {
                return Ok(false);
            }
            for start in (0..length).step_by(PIECE) {
                let end = length.min(start + PIECE);
                if one.bytes(start, end)? != other.bytes(start, end)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}
