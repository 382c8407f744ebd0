use std::borrow::Cow;

use dataset::Instance;
use ndarray::{ArrayD, IxDyn};

use crate::{
    Error, Limits,
    codec::{self, Cells, Coded, Encoding},
    colour,
    frames::{Native, PixelData, encapsulated_frame},
    image_pixel::{ImagePixel, Photometric, Stored},
};

/// The stored values of a frame in C order: shape (rows, columns), or (rows, columns, 3) for colour.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// Unsigned, up to 8 bits (1-bit samples as 0 and 1).
    U8(ArrayD<u8>),
    /// Signed, up to 8 bits.
    I8(ArrayD<i8>),
    /// Unsigned, up to 16 bits.
    U16(ArrayD<u16>),
    /// Signed, up to 16 bits.
    I16(ArrayD<i16>),
    /// Unsigned, up to 32 bits.
    U32(ArrayD<u32>),
    /// Signed, up to 32 bits.
    I32(ArrayD<i32>),
    /// Float Pixel Data.
    F32(ArrayD<f32>),
    /// Double Float Pixel Data.
    F64(ArrayD<f64>),
}

/// Runs `$body` with `$array` bound to the array of whatever type.
macro_rules! with_array {
    ($samples:expr, $array:ident => $body:expr) => {
        match $samples {
            $crate::Samples::U8($array) => $body,
            $crate::Samples::I8($array) => $body,
            $crate::Samples::U16($array) => $body,
            $crate::Samples::I16($array) => $body,
            $crate::Samples::U32($array) => $body,
            $crate::Samples::I32($array) => $body,
            $crate::Samples::F32($array) => $body,
            $crate::Samples::F64($array) => $body,
        }
    };
}
pub(crate) use with_array;

impl Samples {
    /// Rows, columns and, for colour, samples per pixel.
    pub fn shape(&self) -> &[usize] {
        with_array!(self, array => array.shape())
    }

    /// The type of a value, as numpy names it.
    pub fn dtype(&self) -> &'static str {
        match self {
            Self::U8(_) => "uint8",
            Self::I8(_) => "int8",
            Self::U16(_) => "uint16",
            Self::I16(_) => "int16",
            Self::U32(_) => "uint32",
            Self::I32(_) => "int32",
            Self::F32(_) => "float32",
            Self::F64(_) => "float64",
        }
    }
}

/// One decoded frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The stored values; for YBR images converted to RGB.
    pub samples: Samples,
    /// What the samples mean now: MONOCHROME1 and 2 and PALETTE COLOR as stored, anything else RGB.
    pub photometric: Photometric,
    /// The checked header they were decoded by.
    pub image: ImagePixel,
}

/// Decodes the stored values of one frame, counted from 0.
///
/// The header is checked against `limits` and against the bytes that are there, and a codestream against the header,
/// before anything is allocated by their claims (PS3.3 C.7.6.3, PS3.5 section 8).
pub fn decode(instance: &Instance, frame: u32, limits: &Limits) -> Result<Decoded, Error> {
    if !instance.header.has_pixel_data() {
        return Err(Error::NoPixelData);
    }
    let encoding = Encoding::of(instance.header.transfer_syntax)?;
    let image = ImagePixel::of(instance, limits)?;
    if frame >= image.frames {
        return Err(Error::NoSuchFrame { frame, frames: image.frames });
    }
    let data = PixelData::of(instance)?;
    if let PixelData::Native(value) = &data {
        limits.check_frame(&image, encoding, value.byte_length())?;
    }
    if let (PixelData::Native(value), Stored::Float | Stored::Double) = (&data, image.stored) {
        let samples = float_frame(*value, &image, frame)?;
        return Ok(Decoded { samples, photometric: image.photometric, image });
    }
    let coded = match (encoding, data) {
        (Encoding::Native, PixelData::Native(value)) => native_frame(instance, value, &image, frame)?,
        (Encoding::EncapsulatedNative | Encoding::DeflatedFrame, PixelData::Encapsulated(fragments)) => {
            let data = encapsulated_frame(instance, fragments, &image, frame)?;
            limits.check_frame(&image, encoding, data.len())?;
            let due = native_bits(&image).div_ceil(8);
            let bytes = match encoding {
                Encoding::DeflatedFrame => Cow::Owned(codec::inflate(&data, due)?),
                _ if data.len() < due => return Err(truncated(due, data.len())),
                _ => data,
            };
            native_cells(bytes, 0, &image)?
        }
        (Encoding::Native | Encoding::EncapsulatedNative | Encoding::DeflatedFrame, _) => {
            return Err(Error::malformed("Pixel Data is not in the form that its transfer syntax asks for"));
        }
        (_, PixelData::Native(_)) => {
            return Err(Error::malformed("Pixel Data is native in a transfer syntax of compressed pixels"));
        }
        (encoding, PixelData::Encapsulated(fragments)) => {
            let data = encapsulated_frame(instance, fragments, &image, frame)?;
            limits.check_frame(&image, encoding, data.len())?;
            codec::decode(encoding, instance.header.transfer_syntax, &data, &image, limits)?
        }
    };
    finish(coded, image)
}

/// Whether a decoder exists for pixel data of this transfer syntax.
pub fn can_decode(syntax: dataset::TransferSyntax) -> bool {
    Encoding::of(syntax).is_ok()
}

fn truncated(expected: usize, available: usize) -> Error {
    Error::Truncated { expected: expected as u64, available: available as u64 }
}

/// Bits of a frame in native form. YBR_FULL_422 shares each pair of colour differences between two pixels.
fn native_bits(image: &ImagePixel) -> usize {
    let samples = match image.photometric {
        Photometric::YbrFull422 => image.pixels() * 2,
        _ => image.frame_samples(),
    };
    samples * image.bits_allocated as usize
}

/// The bytes that hold a frame, and at which bit of the first one it begins. All frames must be there: a set that was
/// cut short is not read in part.
fn native_range<'a>(value: Native<'a>, image: &ImagePixel, frame: u32) -> Result<(Cow<'a, [u8]>, usize), Error> {
    let bits = native_bits(image);
    let due =
        bits.checked_mul(image.frames as usize).ok_or_else(|| Error::malformed("the frames overflow"))?.div_ceil(8);
    let available = value.byte_length();
    if available < due {
        return Err(truncated(due, available));
    }
    let start = bits * frame as usize;
    Ok((value.bytes(start / 8, (start + bits).div_ceil(8))?, start % 8))
}

fn native_frame(instance: &Instance, value: Native<'_>, image: &ImagePixel, frame: u32) -> Result<Coded, Error> {
    // The common radiograph, without a detour through bytes.
    if let (Some(words), 16) = (value.words(), image.bits_allocated) {
        let length = native_bits(image) / 16;
        let due = length.checked_mul(image.frames as usize).ok_or_else(|| Error::malformed("the frames overflow"))?;
        if words.len() < due {
            return Err(truncated(due * 2, words.len() * 2));
        }
        let start = length * frame as usize;
        return native_coded(Cells::Sixteen(words[start..start + length].to_vec()), image);
    }
    let (bytes, first_bit) = native_range(value, image, frame)?;
    let mut coded = native_cells(bytes, first_bit, image)?;
    // Read as words, a big endian value of two words has the higher one first.
    if let (Cells::ThirtyTwo(cells), Some(_), true) =
        (&mut coded.cells, value.words(), instance.header.transfer_syntax.big_endian())
    {
        cells.iter_mut().for_each(|cell| *cell = cell.rotate_left(16));
    }
    Ok(coded)
}

/// One frame of at least the bytes that are due.
fn native_cells(bytes: Cow<'_, [u8]>, first_bit: usize, image: &ImagePixel) -> Result<Coded, Error> {
    if image.bits_allocated == 1 {
        // The first pixel is the lowest bit (PS3.5 section 8.1.1), and frames follow each other without padding.
        let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1;
        let cells = (first_bit..first_bit + image.frame_samples()).map(bit).collect();
        return native_coded(Cells::Eight(cells), image);
    }
    let length = native_bits(image).div_ceil(8);
    let bytes = match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..length]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(length);
            Cow::Owned(bytes)
        }
    };
    native_coded(Cells::from_bytes(bytes, image.bits_allocated)?, image)
}

fn native_coded(cells: Cells, image: &ImagePixel) -> Result<Coded, Error> {
    let (cells, photometric) = match image.photometric {
        Photometric::YbrFull422 => (colour::upsample_422(cells, image)?, Photometric::YbrFull),
        other if image.planar => (cells.interleaved(image.samples), other),
        other => (cells, other),
    };
    Ok(Coded { cells, bits: image.bits_stored, shift: image.shift(), photometric })
}

fn float_frame(value: Native<'_>, image: &ImagePixel, frame: u32) -> Result<Samples, Error> {
    let (bytes, _) = native_range(value, image, frame)?;
    if image.stored == Stored::Float {
        let cell = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Ok(Samples::F32(shaped(bytes.chunks_exact(4).map(cell).collect(), image)?))
    } else {
        let cell = |b: &[u8]| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        Ok(Samples::F64(shaped(bytes.chunks_exact(8).map(cell).collect(), image)?))
    }
}

/// From cells to values: unused bits dropped, sign extended, YBR made RGB.
fn finish(coded: Coded, image: ImagePixel) -> Result<Decoded, Error> {
    let bits = coded.bits.min(image.bits_allocated);
    let cells = widened(coded.cells, image.bits_allocated);
    if bits == 0 || bits + coded.shift > cells.width() {
        return Err(Error::malformed("High Bit (0028,0102) contradicts Bits Stored and Bits Allocated"));
    }
    if coded.photometric == Photometric::YbrFull {
        let cells = colour::ybr_to_rgb(cells.aligned(bits, coded.shift), &image)?;
        return Ok(Decoded { samples: values(cells, bits, 0, &image)?, photometric: Photometric::Rgb, image });
    }
    let photometric = match coded.photometric {
        Photometric::YbrIct | Photometric::YbrRct => Photometric::Rgb,
        other => other,
    };
    Ok(Decoded { samples: values(cells, bits, coded.shift, &image)?, photometric, image })
}

/// A codec answers in the cells that its precision needs, the header may allocate others.
#[expect(clippy::cast_possible_truncation)] // no codestream of more bits than allocated comes this far
fn widened(cells: Cells, bits_allocated: u32) -> Cells {
    match (cells, bits_allocated) {
        (Cells::Eight(cells), 16) => Cells::Sixteen(cells.into_iter().map(u16::from).collect()),
        (Cells::Sixteen(cells), 8) => Cells::Eight(cells.into_iter().map(|cell| cell as u8).collect()),
        (Cells::Eight(cells), 24 | 32) => Cells::ThirtyTwo(cells.into_iter().map(u32::from).collect()),
        (Cells::Sixteen(cells), 24 | 32) => Cells::ThirtyTwo(cells.into_iter().map(u32::from).collect()),
        (cells, _) => cells,
    }
}

/// Takes `bits` bits from bit `shift` of each cell, as a signed or an unsigned value. Both must fit a cell.
fn values(cells: Cells, bits: u32, shift: u32, image: &ImagePixel) -> Result<Samples, Error> {
    if !image.signed() {
        return Ok(match cells.aligned(bits, shift) {
            Cells::Eight(cells) => Samples::U8(shaped(cells, image)?),
            Cells::Sixteen(cells) => Samples::U16(shaped(cells, image)?),
            Cells::ThirtyTwo(cells) => Samples::U32(shaped(cells, image)?),
        });
    }
    // To the top of the cell and down again: drops what is above, and below, and extends the sign. From a slice, because
    // the compiler makes no vectors of what is collected in place, nor of shifts that it checks.
    let (up, down) = (cells.width() - bits - shift, cells.width() - bits);
    Ok(match cells {
        Cells::Eight(cells) => {
            let value = |cell: &u8| cell.wrapping_shl(up).cast_signed().wrapping_shr(down);
            Samples::I8(shaped(cells.iter().map(value).collect(), image)?)
        }
        Cells::Sixteen(cells) => {
            let value = |cell: &u16| cell.wrapping_shl(up).cast_signed().wrapping_shr(down);
            Samples::I16(shaped(cells.iter().map(value).collect(), image)?)
        }
        Cells::ThirtyTwo(cells) => {
            let value = |cell: &u32| cell.wrapping_shl(up).cast_signed().wrapping_shr(down);
            Samples::I32(shaped(cells.iter().map(value).collect(), image)?)
        }
    })
}

fn shaped<T>(values: Vec<T>, image: &ImagePixel) -> Result<ArrayD<T>, Error> {
    let mut shape = vec![image.rows as usize, image.columns as usize];
    if image.samples > 1 {
        shape.push(image.samples as usize);
    }
    ArrayD::from_shape_vec(IxDyn(&shape), values)
        .map_err(|_| Error::malformed("the number of samples is not that of the header"))
}
