//! One compressed frame to interleaved samples, through the codec of its transfer syntax.

use std::{
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
};

use dataset::TransferSyntax;
use jpeg2k::DecodeParameters;
use jxl_oxide::{AllocTracker, JxlImage};

use crate::{
    Error,
    codestream::{JpegHeader, jpeg_2000_header, jpeg_header},
    image_pixel::{ImagePixel, Photometric},
    jpeg, rle,
};

/// How the pixels of a transfer syntax are compressed (PS3.5 section 8.2 and annex A).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Native,
    EncapsulatedNative,
    Rle,
    Jpeg,
    JpegLs,
    Jpeg2000,
    JpegXl,
    DeflatedFrame,
}

impl Encoding {
    /// Errors with [`Error::UnsupportedTransferSyntax`].
    pub(crate) fn of(syntax: TransferSyntax) -> Result<Self, Error> {
        Ok(match syntax.uid() {
            "1.2.840.10008.1.2" | "1.2.840.10008.1.2.1" | "1.2.840.10008.1.2.2" | "1.2.840.10008.1.2.1.99" => {
                Self::Native
            }
            "1.2.840.10008.1.2.1.98" => Self::EncapsulatedNative,
            "1.2.840.10008.1.2.5" => Self::Rle,
            // 53 and 55 are retired progressive and spectral processes, still met; what is 12-bit the decoder refuses.
            "1.2.840.10008.1.2.4.50"
            | "1.2.840.10008.1.2.4.51"
            | "1.2.840.10008.1.2.4.53"
            | "1.2.840.10008.1.2.4.55"
            | "1.2.840.10008.1.2.4.57"
            | "1.2.840.10008.1.2.4.70" => Self::Jpeg,
            "1.2.840.10008.1.2.4.80" | "1.2.840.10008.1.2.4.81" => Self::JpegLs,
            "1.2.840.10008.1.2.4.90"
            | "1.2.840.10008.1.2.4.91"
            | "1.2.840.10008.1.2.4.201"
            | "1.2.840.10008.1.2.4.202"
            | "1.2.840.10008.1.2.4.203" => Self::Jpeg2000,
            "1.2.840.10008.1.2.4.110" | "1.2.840.10008.1.2.4.111" | "1.2.840.10008.1.2.4.112" => Self::JpegXl,
            "1.2.840.10008.1.2.8.1" => Self::DeflatedFrame,
            uid => return Err(Error::UnsupportedTransferSyntax { uid, name: syntax.name() }),
        })
    }
}

/// Sample cells before masking and sign extension, interleaved by pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cells {
    Eight(Vec<u8>),
    Sixteen(Vec<u16>),
    ThirtyTwo(Vec<u32>),
}

impl Cells {
    /// Reads little endian cells of 8, 16 or 32 bits.
    pub(crate) fn from_bytes(bytes: Vec<u8>, bits_allocated: u32) -> Result<Self, Error> {
        match bits_allocated {
            8 => Ok(Self::Eight(bytes)),
            16 => Ok(Self::Sixteen(bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect())),
            32 => {
                let cell = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                Ok(Self::ThirtyTwo(bytes.chunks_exact(4).map(cell).collect()))
            }
            bits => Err(Error::unsupported(format!("Bits Allocated {bits}"))),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Eight(cells) => cells.len(),
            Self::Sixteen(cells) => cells.len(),
            Self::ThirtyTwo(cells) => cells.len(),
        }
    }

    /// From one plane per sample to samples interleaved by pixel.
    pub(crate) fn interleaved(self, samples: u32) -> Self {
        match self {
            Self::Eight(cells) => Self::Eight(interleave(&cells, samples as usize)),
            Self::Sixteen(cells) => Self::Sixteen(interleave(&cells, samples as usize)),
            Self::ThirtyTwo(cells) => Self::ThirtyTwo(interleave(&cells, samples as usize)),
        }
    }
}

fn interleave<T: Copy>(planes: &[T], samples: usize) -> Vec<T> {
    let pixels = planes.len() / samples;
    (0..pixels).flat_map(|pixel| (0..samples).map(move |sample| planes[sample * pixels + pixel])).collect()
}

/// What a codec made of a frame.
pub(crate) struct Coded {
    pub(crate) cells: Cells,
    /// The bits of a sample, as the codestream says.
    pub(crate) bits: u32,
    /// At which bit of its cell a sample begins: 0 from a codestream, which has no cells.
    pub(crate) shift: u32,
    /// What the samples mean, where the codestream knows better than the header.
    pub(crate) photometric: Photometric,
}

/// Decodes one frame.
pub(crate) fn decode(encoding: Encoding, data: &[u8], image: &ImagePixel) -> Result<Coded, Error> {
    // The decoders index and multiply by what a codestream says. A panic in one of them is a damaged image and must
    // not take the process or the worker with it; nothing that a decoder touched outlives the call.
    let guarded = |codec: &'static str, decoder: fn(&[u8], &ImagePixel) -> Result<Coded, Error>| {
        let coded = catch_unwind(AssertUnwindSafe(|| decoder(data, image)))
            .unwrap_or_else(|_| Err(Error::codec(codec, "it panicked on this codestream")))?;
        if coded.cells.len() == image.frame_samples() {
            Ok(coded)
        } else {
            Err(mismatch(codec, "samples", coded.cells.len() as u64, image.frame_samples() as u64))
        }
    };
    match encoding {
        Encoding::Rle => guarded("RLE", |data, image| {
            let cells = rle::decode(data, image)?;
            Ok(Coded { cells, bits: image.bits_stored, shift: image.shift(), photometric: image.photometric })
        }),
        Encoding::Jpeg => guarded(JPEG, jpeg_frame),
        Encoding::JpegLs => guarded(JPEG_LS, jpeg_ls),
        Encoding::Jpeg2000 => guarded(JPEG_2000, jpeg_2000),
        Encoding::JpegXl => guarded(JPEG_XL, jpeg_xl),
        Encoding::Native | Encoding::EncapsulatedNative | Encoding::DeflatedFrame => {
            Err(Error::malformed("native pixel data has no codec"))
        }
    }
}

const JPEG: &str = "JPEG";
const JPEG_LS: &str = "JPEG-LS";
const JPEG_2000: &str = "JPEG 2000";
const JPEG_XL: &str = "JPEG XL";

fn mismatch(codec: &'static str, what: &'static str, found: u64, expected: u64) -> Error {
    Error::Mismatch { codec, what, found, expected }
}

/// The codestream must be the image of the header, before its decoder allocates by its own claim.
fn expect(codec: &'static str, image: &ImagePixel, size: [u64; 4]) -> Result<(), Error> {
    let [rows, columns, components, precision] = size;
    let due =
        [("rows", rows, image.rows), ("columns", columns, image.columns), ("components", components, image.samples)];
    for (what, found, expected) in due {
        if found != u64::from(expected) {
            return Err(mismatch(codec, what, found, u64::from(expected)));
        }
    }
    if precision == 0 || precision > u64::from(image.bits_allocated) {
        return Err(mismatch(codec, "bits per sample", precision, u64::from(image.bits_allocated)));
    }
    Ok(())
}

fn jpeg_frame(data: &[u8], image: &ImagePixel) -> Result<Coded, Error> {
    let header = jpeg_header(JPEG, data)?;
    let components = header.components.len() as u64;
    expect(JPEG, image, [header.rows.into(), header.columns.into(), components, header.precision.into()])?;
    let cells = if jpeg::decodes(&header) { jpeg::decode(data, &header)? } else { jpeg_colour(data, &header)? };
    let photometric = match (image.samples, header.lossless, header.adobe_transform) {
        (1, ..) | (_, true, _) => image.photometric,
        (.., Some(0)) => Photometric::Rgb,
        (.., Some(1)) => Photometric::YbrFull,
        _ if header.jfif => Photometric::YbrFull,
        _ if header.components == *b"RGB" => Photometric::Rgb,
        _ => image.photometric,
    };
    Ok(Coded { cells, bits: header.precision.max(image.bits_stored), shift: 0, photometric: upsampled(photometric) })
}

/// DCT of several components, and progressive DCT.
fn jpeg_colour(data: &[u8], header: &JpegHeader) -> Result<Cells, Error> {
    if header.precision != 8 {
        return Err(Error::unsupported(format!("colour or progressive JPEG of {} bits", header.precision)));
    }
    let mut decoder = jpeg_decoder::Decoder::new(data);
    if header.components.len() == 3 {
        // "RGB" means: as coded. Which transform is due, the markers and the DICOM header say together.
        decoder.set_color_transform(jpeg_decoder::ColorTransform::RGB);
    }
    decoder.decode().map(Cells::Eight).map_err(|error| Error::codec(JPEG, error))
}

/// A decoder gives each pixel its own colour differences, however few were coded.
fn upsampled(photometric: Photometric) -> Photometric {
    if photometric == Photometric::YbrFull422 { Photometric::YbrFull } else { photometric }
}

fn jpeg_ls(data: &[u8], image: &ImagePixel) -> Result<Coded, Error> {
    let header = jpeg_header(JPEG_LS, data)?;
    let components = header.components.len() as u64;
    expect(JPEG_LS, image, [header.rows.into(), header.columns.into(), components, header.precision.into()])?;
    let bytes = charls::CharLS::default().decode(data).map_err(|error| Error::codec(JPEG_LS, error))?;
    let cells = if header.precision <= 8 {
        Cells::Eight(bytes)
    } else {
        Cells::Sixteen(bytes.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect())
    };
    let cells = if header.planar && image.samples > 1 { cells.interleaved(image.samples) } else { cells };
    Ok(Coded { cells, bits: header.precision, shift: 0, photometric: upsampled(image.photometric) })
}

fn jpeg_2000(data: &[u8], image: &ImagePixel) -> Result<Coded, Error> {
    let (siz, at) = jpeg_2000_header(JPEG_2000, data)?;
    expect(JPEG_2000, image, [siz.rows, siz.columns, siz.components.into(), siz.precision.into()])?;
    if siz.subsampled {
        return Err(Error::unsupported("JPEG 2000 with subsampled components"));
    }
    // Strict: a codestream that was cut short must not pass for a whole image.
    let decoded = jpeg2k::Image::from_bytes_with(&data[at..], DecodeParameters::new().strict(true))
        .map_err(|error| Error::codec(JPEG_2000, error))?;
    let components = decoded.components();
    if components.len() != image.samples as usize {
        return Err(mismatch(JPEG_2000, "components", components.len() as u64, image.samples.into()));
    }
    if components.iter().any(|it| (it.width(), it.height()) != (image.columns, image.rows)) {
        return Err(Error::codec(JPEG_2000, "a component is not of the image's size"));
    }
    let planes: Vec<&[i32]> = components.iter().map(|component| component.data()).collect();
    // The low bits of a signed sample are its two's complement cell, which is what is asked for.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let cells = match image.bits_allocated {
        8 => Cells::Eight(gather(&planes, |sample| sample as u8)),
        16 => Cells::Sixteen(gather(&planes, |sample| sample as u16)),
        32 => Cells::ThirtyTwo(gather(&planes, |sample| sample as u32)),
        bits => return Err(Error::unsupported(format!("JPEG 2000 with Bits Allocated {bits}"))),
    };
    // A signed sample is whole already: sign extension must begin at the cell's own highest bit.
    let bits =
        if components.iter().any(jpeg2k::ImageComponent::is_signed) { image.bits_allocated } else { siz.precision };
    let photometric = match image.photometric {
        Photometric::YbrIct | Photometric::YbrRct => Photometric::Rgb,
        other => upsampled(other),
    };
    Ok(Coded { cells, bits, shift: 0, photometric })
}

fn gather<T>(planes: &[&[i32]], cell: impl Fn(i32) -> T) -> Vec<T> {
    match planes {
        [one] => one.iter().map(|sample| cell(*sample)).collect(),
        many => {
            let pixels = many.first().map_or(0, |plane| plane.len());
            let mut cells = Vec::with_capacity(pixels * many.len());
            for pixel in 0..pixels {
                cells.extend(many.iter().map(|plane| cell(plane[pixel])));
            }
            cells
        }
    }
}

fn jpeg_xl(data: &[u8], image: &ImagePixel) -> Result<Coded, Error> {
    // A renderer keeps several float planes of the image; what a codestream asks beyond that is not this image.
    const FIXED: usize = 64 << 20;
    const PER_SAMPLE: usize = 64;
    let tracker = AllocTracker::with_limit(FIXED + PER_SAMPLE * image.frame_samples());
    let decoded =
        JxlImage::builder().alloc_tracker(tracker).read(data).map_err(|error| Error::codec(JPEG_XL, error))?;
    let format = decoded.pixel_format();
    let colours = if format.is_grayscale() { 1 } else { 3 };
    let depth = decoded.image_header().metadata.bit_depth;
    if matches!(depth, jxl_oxide::image::BitDepth::FloatSample { .. }) || format.has_black() {
        return Err(Error::unsupported("JPEG XL of float or CMYK samples"));
    }
    let bits = depth.bits_per_sample();
    expect(JPEG_XL, image, [decoded.height().into(), decoded.width().into(), colours, bits.into()])?;
    let frame = decoded.render_frame(0).map_err(|error| Error::codec(JPEG_XL, error))?;
    let mut stream = frame.stream_no_alpha();
    let mut values = vec![0f32; image.frame_samples()];
    if u64::from(stream.channels()) != colours || stream.write_to_buffer(&mut values) != values.len() {
        return Err(Error::codec(JPEG_XL, "the frame is not of the image's size"));
    }
    let highest = ((1u64 << bits) - 1) as f64;
    let whole = |value: f32| (f64::from(value) * highest).round().clamp(0.0, highest);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to the cell's range
    let cells = match image.bits_allocated {
        8 => Cells::Eight(values.into_iter().map(|value| whole(value) as u8).collect()),
        16 => Cells::Sixteen(values.into_iter().map(|value| whole(value) as u16).collect()),
        other => return Err(Error::unsupported(format!("JPEG XL with Bits Allocated {other}"))),
    };
    let photometric = if image.samples == 3 { Photometric::Rgb } else { image.photometric };
    Ok(Coded { cells, bits: bits.max(image.bits_stored), shift: 0, photometric })
}

/// Deflated Image Frame Compression (PS3.5 A.4.14): a frame's native bytes, deflated. Never inflates beyond `due` bytes.
pub(crate) fn inflate(data: &[u8], due: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(due);
    let read = flate2::read::DeflateDecoder::new(data).take(due as u64).read_to_end(&mut bytes);
    read.map_err(|error| Error::codec("deflate", error.kind()))?;
    if bytes.len() < due {
        return Err(Error::Truncated { expected: due as u64, available: bytes.len() as u64 });
    }
    Ok(bytes)
}
