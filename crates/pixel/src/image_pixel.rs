use dataset::{Header, Instance, NativePixels, tags};
use dicom_core::{Tag, VR};

use crate::{Error, Limits};

/// Photometric Interpretation (0028,0004), PS3.3 C.7.6.3.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Photometric {
    /// Grey, the lowest value white.
    #[serde(rename = "MONOCHROME1")]
    Monochrome1,
    /// Grey, the lowest value black.
    #[serde(rename = "MONOCHROME2")]
    Monochrome2,
    /// Indices into the palette.
    #[serde(rename = "PALETTE COLOR")]
    PaletteColor,
    /// Red, green, blue.
    #[serde(rename = "RGB")]
    Rgb,
    /// Luminance and two colour differences, full range.
    #[serde(rename = "YBR_FULL")]
    YbrFull,
    /// The same with the colour differences of two neighbours shared.
    #[serde(rename = "YBR_FULL_422")]
    YbrFull422,
    /// JPEG 2000's irreversible transform: its decoder yields RGB.
    #[serde(rename = "YBR_ICT")]
    YbrIct,
    /// JPEG 2000's reversible transform: its decoder yields RGB.
    #[serde(rename = "YBR_RCT")]
    YbrRct,
}

impl Photometric {
    fn of(header: &Header) -> Result<Self, Error> {
        let text = header
            .text(tags::PHOTOMETRIC_INTERPRETATION)
            .ok_or_else(|| Error::malformed("Photometric Interpretation (0028,0004) is missing"))?;
        Ok(match text.as_str() {
            "MONOCHROME1" => Self::Monochrome1,
            "MONOCHROME2" => Self::Monochrome2,
            "PALETTE COLOR" => Self::PaletteColor,
            "RGB" => Self::Rgb,
            "YBR_FULL" => Self::YbrFull,
            "YBR_FULL_422" => Self::YbrFull422,
            "YBR_ICT" => Self::YbrIct,
            "YBR_RCT" => Self::YbrRct,
            "ARGB" | "HSV" | "CMYK" | "YBR_PARTIAL_420" | "YBR_PARTIAL_422" | "XYB" => {
                return Err(Error::unsupported(format!("Photometric Interpretation {text}")));
            }
            _ => return Err(Error::malformed("Photometric Interpretation (0028,0004) is none of PS3.3 C.7.6.3.1.2")),
        })
    }

    /// Whether the image has one sample per pixel that is a brightness.
    pub fn is_grey(self) -> bool {
        matches!(self, Self::Monochrome1 | Self::Monochrome2)
    }

    fn samples(self) -> u32 {
        if self.is_grey() || self == Self::PaletteColor { 1 } else { 3 }
    }
}

/// What a stored value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// An integer of Bits Stored bits in a cell of Bits Allocated bits.
    Integer {
        /// Whether it is in two's complement (Pixel Representation 1).
        signed: bool,
    },
    /// Float Pixel Data (7FE0,0008).
    Float,
    /// Double Float Pixel Data (7FE0,0009).
    Double,
}

/// The Image Pixel module (PS3.3 C.7.6.3), checked: no product of its numbers overflows or passes the limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePixel {
    /// Rows of a frame, at least 1.
    pub rows: u32,
    /// Columns of a frame, at least 1.
    pub columns: u32,
    /// Samples per Pixel: 1 or 3.
    pub samples: u32,
    /// Bits of a sample's cell: 1, 8, 16, 24, 32, or 64 for floats.
    pub bits_allocated: u32,
    /// Bits of a sample that count, at most the bits allocated.
    pub bits_stored: u32,
    /// The position of a sample's highest bit in its cell.
    pub high_bit: u32,
    /// What a sample is.
    pub stored: Stored,
    /// Planar Configuration 1: all red samples of a frame, then all green, then all blue.
    pub planar: bool,
    /// How samples mean colour.
    pub photometric: Photometric,
    /// Number of Frames, at least 1.
    pub frames: u32,
}

impl ImagePixel {
    /// Reads and checks the module. Errors with [`Error::NoPixelData`], [`Error::Malformed`], [`Error::Unsupported`] or
    /// [`Error::TooLarge`].
    pub fn of(instance: &Instance, limits: &Limits) -> Result<Self, Error> {
        let header = &instance.header;
        if !header.has_pixel_data() {
            return Err(Error::NoPixelData);
        }
        let photometric = Photometric::of(header)?;
        let samples = number(header, tags::SAMPLES_PER_PIXEL, "Samples per Pixel")?.unwrap_or(1);
        let bits_allocated = required(header, tags::BITS_ALLOCATED, "Bits Allocated")?;
        let bits_stored = number(header, tags::BITS_STORED, "Bits Stored")?.unwrap_or(bits_allocated);
        let image = Self {
            rows: required(header, tags::ROWS, "Rows")?,
            columns: required(header, tags::COLUMNS, "Columns")?,
            samples,
            bits_allocated,
            bits_stored,
            high_bit: number(header, tags::HIGH_BIT, "High Bit")?.unwrap_or(bits_stored.saturating_sub(1)),
            stored: stored(instance)?,
            planar: samples > 1 && number(header, tags::PLANAR_CONFIGURATION, "Planar Configuration")? == Some(1),
            photometric,
            frames: frames(header, limits)?,
        };
        image.check(limits)?;
        Ok(image)
    }

    /// Rows times Columns: within the limit, so far from any overflow.
    pub fn pixels(&self) -> usize {
        self.rows as usize * self.columns as usize
    }

    /// Samples of a frame.
    pub fn frame_samples(&self) -> usize {
        self.pixels() * self.samples as usize
    }

    /// At which bit of its cell a sample begins: 0 unless High Bit says otherwise.
    pub fn shift(&self) -> u32 {
        (self.high_bit + 1).saturating_sub(self.bits_stored)
    }

    /// Whether samples are signed integers.
    pub fn signed(&self) -> bool {
        self.stored == Stored::Integer { signed: true }
    }

    /// An unsigned grey image, for tests of codecs.
    #[cfg(test)]
    pub(crate) fn grey(rows: u32, columns: u32, bits: u32) -> Self {
        Self {
            rows,
            columns,
            samples: 1,
            bits_allocated: bits,
            bits_stored: bits,
            high_bit: bits - 1,
            stored: Stored::Integer { signed: false },
            planar: false,
            photometric: Photometric::Monochrome2,
            frames: 1,
        }
    }

    fn check(&self, limits: &Limits) -> Result<(), Error> {
        if self.rows == 0 || self.columns == 0 {
            return Err(Error::malformed("Rows (0028,0010) or Columns (0028,0011) is 0"));
        }
        check_pixels(self.rows, self.columns, limits)?;
        match self.samples {
            1 | 3 if self.samples == self.photometric.samples() => {}
            1 | 3 => return Err(Error::malformed("Samples per Pixel contradicts Photometric Interpretation")),
            4 => return Err(Error::unsupported("an image of 4 samples per pixel")),
            _ => return Err(Error::malformed("Samples per Pixel (0028,0002) is neither 1, 3 nor 4")),
        }
        match (self.stored, self.bits_allocated) {
            (Stored::Float, 32) | (Stored::Double, 64) => return Ok(()),
            (Stored::Float | Stored::Double, _) => {
                return Err(Error::malformed("Bits Allocated (0028,0100) does not fit float pixel data"));
            }
            (Stored::Integer { .. }, 1 | 8 | 16 | 24 | 32) => {}
            (Stored::Integer { .. }, 0) => return Err(Error::malformed("Bits Allocated (0028,0100) is 0")),
            (Stored::Integer { .. }, bits) => return Err(Error::unsupported(format!("Bits Allocated {bits}"))),
        }
        if self.bits_stored == 0 || self.bits_stored > self.bits_allocated {
            return Err(Error::malformed("Bits Stored (0028,0101) is 0 or more than Bits Allocated (0028,0100)"));
        }
        if self.high_bit >= self.bits_allocated || self.high_bit + 1 < self.bits_stored {
            return Err(Error::malformed("High Bit (0028,0102) contradicts Bits Stored and Bits Allocated"));
        }
        Ok(())
    }
}

/// Refuses by the header alone what is beyond the limits, before anything of the pixels is read.
///
/// # Errors
/// [`Error::TooLarge`]. What else is wrong with a header is found when the pixels are there.
pub fn check_size(header: &Header, limits: &Limits) -> Result<(), Error> {
    if !header.has_pixel_data() {
        return Ok(());
    }
    let side = |tag| header.integer(tag).and_then(|side| u32::try_from(side).ok()).unwrap_or(0);
    check_pixels(side(tags::ROWS), side(tags::COLUMNS), limits)?;
    match frames(header, limits) {
        Err(error @ Error::TooLarge { .. }) => Err(error),
        _ => Ok(()),
    }
}

fn check_pixels(rows: u32, columns: u32, limits: &Limits) -> Result<(), Error> {
    let (found, limit) = (u64::from(rows) * u64::from(columns), limits.pixels_per_frame);
    if found > limit { Err(Error::TooLarge { what: "pixels per frame", found, limit }) } else { Ok(()) }
}

fn stored(instance: &Instance) -> Result<Stored, Error> {
    let on_disk = instance.native_pixels().map(NativePixels::tag);
    let has = |tag| on_disk == Some(tag) || instance.element(tag).is_some();
    if has(tags::PIXEL_DATA) {
        let representation = number(&instance.header, tags::PIXEL_REPRESENTATION, "Pixel Representation")?;
        match representation {
            None | Some(0) => Ok(Stored::Integer { signed: false }),
            Some(1) => Ok(Stored::Integer { signed: true }),
            Some(_) => Err(Error::malformed("Pixel Representation (0028,0103) is neither 0 nor 1")),
        }
    } else if has(tags::FLOAT_PIXEL_DATA) {
        Ok(Stored::Float)
    } else if has(tags::DOUBLE_FLOAT_PIXEL_DATA) {
        Ok(Stored::Double)
    } else {
        Err(Error::NoPixelData)
    }
}

/// Number of Frames (0028,0008): absent, empty and 0 mean one frame, as senders mean it.
fn frames(header: &Header, limits: &Limits) -> Result<u32, Error> {
    let Some(text) = header.text(tags::NUMBER_OF_FRAMES) else { return Ok(1) };
    let frames: u64 =
        text.trim().parse().map_err(|_| Error::malformed("Number of Frames (0028,0008) is not a number of frames"))?;
    match u32::try_from(frames) {
        Ok(frames) if frames <= limits.frames => Ok(frames.max(1)),
        _ => Err(Error::TooLarge { what: "frames", found: frames, limit: u64::from(limits.frames) }),
    }
}

fn required(header: &Header, tag: Tag, name: &str) -> Result<u32, Error> {
    number(header, tag, name)?.ok_or_else(|| Error::malformed(format!("{name} {tag} is missing")))
}

/// An attribute of VR US: nothing when absent or empty, an error when it is no number.
fn number(header: &Header, tag: Tag, name: &str) -> Result<Option<u32>, Error> {
    if header.raw(tag).is_none_or(<[u8]>::is_empty) {
        return Ok(None);
    }
    let value = header.integer(tag).and_then(|value| u32::try_from(value).ok());
    value.map(Some).ok_or_else(|| Error::malformed(format!("{name} {tag} is not a value of VR {}", VR::US)))
}
