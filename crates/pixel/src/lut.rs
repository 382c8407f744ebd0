//! Lookup tables: the LUT Descriptor and LUT Data that modality LUT, VOI LUT and palette share (PS3.3 C.11.1.1).

use dicom_object::mem::InMemElement;

use crate::Error;

/// LUT Descriptor (0028,3002): number of entries, first value mapped, bits per entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) entries: usize,
    pub(crate) first: i32,
    pub(crate) bits: u32,
}

impl Descriptor {
    /// `signed`: whether the values that index the table may be negative, so that a first value of VR US that exceeds
    /// 32767 is a negative one. Errors with [`Error::Malformed`].
    pub(crate) fn of(element: &InMemElement, signed: bool) -> Result<Self, Error> {
        let malformed = || Error::malformed("a LUT Descriptor is not three numbers with 8 to 16 bits per entry");
        let numbers: Vec<i32> = element.to_multi_int().map_err(|_| malformed())?;
        let &[entries, first, bits] = numbers.as_slice() else { return Err(malformed()) };
        // As a signed short, 65535 entries read -1; and 0 stands for 65536.
        let entries = match entries & 0xffff {
            0 => 1 << 16,
            entries => entries as usize,
        };
        let first = if signed && first > 0x7fff { first - 0x1_0000 } else { first };
        match u32::try_from(bits) {
            Ok(bits @ 8..=16) => Ok(Self { entries, first, bits }),
            _ => Err(malformed()),
        }
    }
}

/// The bytes of LUT Data, words in little endian. Errors with [`Error::Malformed`].
pub(crate) fn lut_bytes(element: &InMemElement) -> Result<std::borrow::Cow<'_, [u8]>, Error> {
    element.to_bytes().map_err(|_| Error::malformed("a lookup table holds no numbers"))
}

/// LUT Data (0028,3006): as many entries as the descriptor says, in bytes or in words. Errors with
/// [`Error::Malformed`] when there are fewer.
pub(crate) fn lut_entries(element: &InMemElement, descriptor: &Descriptor) -> Result<Vec<u16>, Error> {
    let short = || Error::malformed("a lookup table has fewer entries than its descriptor says");
    let bytes = lut_bytes(element)?;
    if bytes.len() >= descriptor.entries * 2 {
        let words = bytes.chunks_exact(2).take(descriptor.entries);
        return Ok(words.map(|b| u16::from_le_bytes([b[0], b[1]])).collect());
    }
    if descriptor.bits == 8 && bytes.len() >= descriptor.entries {
        return Ok(bytes.iter().take(descriptor.entries).map(|byte| u16::from(*byte)).collect());
    }
    Err(short())
}

/// A lookup table of grey values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lut {
    pub(crate) descriptor: Descriptor,
    pub(crate) entries: Vec<u16>,
}

impl Lut {
    /// The entry for an input value; beyond the ends the first or the last one (PS3.3 C.11.1.1.1).
    pub(crate) fn at(&self, value: f64) -> f64 {
        let index = (value - f64::from(self.descriptor.first)).clamp(0.0, (self.entries.len() - 1) as f64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped; NaN becomes 0
        let index = index as usize;
        f64::from(self.entries[index])
    }
}
