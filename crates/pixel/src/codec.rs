//! One compressed frame to interleaved samples, through the codec of its transfer syntax.

use std::{
    borrow::Cow,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
};

use dataset::TransferSyntax;
use jxl_oxide::{AllocTracker, JxlImage};

use crate::{
    Error, Limits,
    adapter::{self, Layout},
    codestream::{JpegHeader, ending_in_ones, jpeg_header, name_as_coded},
    image_pixel::{ImagePixel, Photometric},
    jpeg, jpeg_2000, jpeg_ls,
    limits::can_allocate,
    rle,
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
            "1.2.840.10008.1.2.4.50"
            | "1.2.840.10008.1.2.4.51"
            // Retired progressive and spectral processes, still met; what is 12-bit the decoder refuses.
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
            uid => return Err(Error::UnsupportedTransferSyntax { uid, name: syntax.name(), reason: why_not(uid) }),
        })
    }
}

/// Why pixel data of a transfer syntax without a decoder cannot be read.
fn why_not(uid: &str) -> &'static str {
    let numbered = |under: &str| {
        let number = uid.strip_prefix(under)?.split('.').next()?;
        number.parse::<u32>().ok()
    };
    match (numbered("1.2.840.10008.1.2.4."), numbered("1.2.840.10008.1.2.7.")) {
        (Some(52..=66), _) => "a retired JPEG process",
        (Some(92 | 93), _) => "JPEG 2000 Part 2, of which no decoder is there",
        (Some(94 | 95 | 204 | 205), _) => "the pixels are on a JPIP server, not in the instance",
        (Some(100..=108), _) => "it is a video, of which no decoder is there: ask for single frames",
        (_, Some(_)) => "the pixels are in a video stream (SMPTE ST 2110), not in the instance",
        _ => "there is no decoder for it",
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
    /// Reads little endian cells of 8, 16, 24 or 32 bits.
    pub(crate) fn from_bytes(bytes: Cow<'_, [u8]>, bits_allocated: u32) -> Result<Self, Error> {
        match bits_allocated {
            8 => Ok(Self::Eight(bytes.into_owned())),
            16 => Ok(Self::Sixteen(bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect())),
            24 => {
                Ok(Self::ThirtyTwo(bytes.chunks_exact(3).map(|b| u32::from_le_bytes([b[0], b[1], b[2], 0])).collect()))
            }
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

    /// Bits of a cell.
    pub(crate) fn width(&self) -> u32 {
        match self {
            Self::Eight(_) => 8,
            Self::Sixteen(_) => 16,
            Self::ThirtyTwo(_) => 32,
        }
    }

    /// Unsigned samples of `bits` bits from bit `shift` on, moved to bit 0, and nothing above them. Both must fit a cell.
    pub(crate) fn aligned(mut self, bits: u32, shift: u32) -> Self {
        let (up, down) = (self.width() - bits - shift, self.width() - bits);
        if down > 0 {
            match &mut self {
                Self::Eight(cells) => {
                    cells.iter_mut().for_each(|cell| *cell = cell.wrapping_shl(up).wrapping_shr(down))
                }
                Self::Sixteen(cells) => {
                    cells.iter_mut().for_each(|cell| *cell = cell.wrapping_shl(up).wrapping_shr(down))
                }
                Self::ThirtyTwo(cells) => {
                    cells.iter_mut().for_each(|cell| *cell = cell.wrapping_shl(up).wrapping_shr(down))
                }
            }
        }
        self
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

/// From a transfer syntax, a codestream and the header.
type Decoder = fn(&str, &[u8], &ImagePixel, &Limits) -> Result<Coded, Error>;

/// Decodes one frame.
pub(crate) fn decode(
    encoding: Encoding,
    syntax: TransferSyntax,
    data: &[u8],
    image: &ImagePixel,
    limits: &Limits,
) -> Result<Coded, Error> {
    // The decoders index and multiply by what a codestream says. A panic in one of them is a damaged image and must
    // not take the process or the worker with it; nothing that a decoder touched outlives the call.
    let guarded = |codec: &'static str, decoder: Decoder| {
        let coded = catch_unwind(AssertUnwindSafe(|| decoder(syntax.uid(), data, image, limits)))
            .unwrap_or_else(|_| Err(Error::codec(codec, "it panicked on this codestream")))?;
        if coded.cells.len() == image.frame_samples() {
            Ok(coded)
        } else {
            Err(mismatch(codec, "samples", coded.cells.len() as u64, image.frame_samples() as u64))
        }
    };
    match encoding {
        Encoding::Rle => guarded("RLE", |_, data, image, _| {
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

/// How many bits of a sample count that a lossless codestream of so many bits holds, and from which one on. Where there
/// are more than Bits Stored, the encoder took each cell as it was, with what stands above and below the sample.
fn lossless_bits(image: &ImagePixel, precision: u32) -> (u32, u32) {
    if precision > image.bits_stored && precision > image.high_bit {
        (image.bits_stored, image.shift())
    } else {
        (precision, 0)
    }
}

fn jpeg_frame(syntax: &str, data: &[u8], image: &ImagePixel, _: &Limits) -> Result<Coded, Error> {
    let header = jpeg_header(JPEG, data)?;
    let components = header.components.len() as u64;
    expect(JPEG, image, [header.rows.into(), header.columns.into(), components, header.precision.into()])?;
    let ours = jpeg::decodes(&header, matches!(syntax, "1.2.840.10008.1.2.4.57" | "1.2.840.10008.1.2.4.70"));
    let cells = if ours { jpeg::decode(data, &header)? } else { jpeg_adapted(data, &header, image)? };
    let photometric = match (image.samples, header.lossless, header.adobe_transform) {
        (1, ..) | (_, true, _) => image.photometric,
        (.., Some(0)) => Photometric::Rgb,
        (.., Some(1)) => Photometric::YbrFull,
        _ if header.jfif => Photometric::YbrFull,
        _ if header.components == *b"RGB" => Photometric::Rgb,
        _ => image.photometric,
    };
    let (bits, shift) = if header.lossless { lossless_bits(image, header.precision) } else { (header.precision, 0) };
    // A codestream of fewer bits than Bits Stored has no sign of its own.
    let bits = if shift == 0 { bits.max(image.bits_stored) } else { bits };
    Ok(Coded { cells, bits, shift, photometric: upsampled(photometric) })
}

/// A JPEG that dicom-pixeldata decodes right.
fn jpeg_adapted(data: &[u8], header: &JpegHeader, image: &ImagePixel) -> Result<Cells, Error> {
    // The one JPEG syntax that has them all; the retired ones have no adapter.
    const EXTENDED: &str = "1.2.840.10008.1.2.4.51";
    // Each scan of a progressive JPEG goes over the whole image, and takes few bytes to do so.
    const MOST_SCANS: usize = 100;
    if header.progressive && data.windows(2).filter(|pair| *pair == [0xff, 0xda]).count() > MOST_SCANS {
        return Err(Error::unsupported(format!("progressive JPEG of more than {MOST_SCANS} scans")));
    }
    let mut data = ending_in_ones(data);
    if header.precision != 8 {
        return Err(Error::unsupported(format!("colour or progressive JPEG of {} bits", header.precision)));
    }
    if header.components.len() == 3 {
        name_as_coded(JPEG, &mut data)?;
    }
    adapter::encapsulated(JPEG, EXTENDED, data, Layout::of(image, 8)).map(Cells::Eight)
}

/// A decoder gives each pixel its own colour differences, however few were coded.
fn upsampled(photometric: Photometric) -> Photometric {
    if photometric == Photometric::YbrFull422 { Photometric::YbrFull } else { photometric }
}

fn jpeg_ls(_: &str, data: &[u8], image: &ImagePixel, _: &Limits) -> Result<Coded, Error> {
    let header = jpeg_header(JPEG_LS, data)?;
    let components = header.components.len() as u64;
    expect(JPEG_LS, image, [header.rows.into(), header.columns.into(), components, header.precision.into()])?;
    if header.subsampled {
        return Err(Error::unsupported("JPEG-LS with subsampled components"));
    }
    let cells = jpeg_ls::decode(data, &header)?;
    let near_lossless = header.predictor > 0;
    let (bits, shift) = if near_lossless { (header.precision, 0) } else { lossless_bits(image, header.precision) };
    Ok(Coded { cells, bits, shift, photometric: upsampled(image.photometric) })
}

/// A codestream that was cut short must not pass for a whole image: the decoders are asked to be strict.
fn jpeg_2000(_: &str, data: &[u8], image: &ImagePixel, limits: &Limits) -> Result<Coded, Error> {
    let (siz, at) = jpeg_2000::header(data)?;
    expect(JPEG_2000, image, [siz.rows, siz.columns, siz.components.into(), siz.precision.into()])?;
    let cells = jpeg_2000::decode(&data[at..], &siz, image, limits.memory_for(data.len()))?;
    // A signed sample is whole already: sign extension must begin at the cell's own highest bit.
    let bits = if siz.signed { image.bits_allocated.clamp(8, 16) } else { siz.precision };
    let photometric = match image.photometric {
        Photometric::YbrIct | Photometric::YbrRct => Photometric::Rgb,
        other => upsampled(other),
    };
    Ok(Coded { cells, bits, shift: 0, photometric })
}

/// Not through dicom-pixeldata: its adapter renders whatever size the codestream claims (measured: 6.9 kB for an image of
/// 10 by 10 pixels took 140 MB, and more by the claim), and spreads samples of 12 bits over the 16 of their cell.
fn jpeg_xl(_: &str, data: &[u8], image: &ImagePixel, limits: &Limits) -> Result<Coded, Error> {
    // A renderer keeps several float planes of the image; what a codestream asks beyond that is not this image.
    const FIXED: usize = 64 << 20;
    const PER_SAMPLE: usize = 64;
    const FLOATS_AND_CELLS: usize = 6;
    let memory = usize::try_from(limits.memory_for(data.len())).unwrap_or(usize::MAX);
    let memory = memory.saturating_sub(FLOATS_AND_CELLS * image.frame_samples());
    can_allocate(memory.min(FIXED) as u64)?;
    let tracker = AllocTracker::with_limit(memory.min(FIXED + PER_SAMPLE * image.frame_samples()));
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

/// Deflated Image Frame Compression (PS3.5 A.4.14): a frame's native bytes, deflated. Never inflates beyond `due` bytes,
/// which dicom-pixeldata's adapter does (measured: 0.5 MB for 100 pixels became 512 MB).
pub(crate) fn inflate(data: &[u8], due: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(due);
    let read = flate2::read::DeflateDecoder::new(data).take(due as u64).read_to_end(&mut bytes);
    read.map_err(|error| Error::codec("deflate", error.kind()))?;
    if bytes.len() < due {
        return Err(Error::Truncated { expected: due as u64, available: bytes.len() as u64 });
    }
    Ok(bytes)
}
