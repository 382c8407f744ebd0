//! The Palette Color Lookup Table module (PS3.3 C.7.9), its tables plain or segmented.

use dataset::{Instance, tags};
use dicom_core::Tag;

use crate::{
    Error, Samples,
    image_pixel::ImagePixel,
    lut::{Descriptor, lut_bytes, lut_entries},
};

/// The three tables of a PALETTE COLOR image, ready for the display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Palette {
    first: i32,
    /// 8-bit red, green, blue by index; at least one.
    colours: Vec<[u8; 3]>,
}

/// Descriptor, plain data and segmented data of red, green and blue.
const TABLES: [[Tag; 3]; 3] = [
    [
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
    [
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
    [
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
];

impl Palette {
    /// Reads the palette. Errors with [`Error::Malformed`].
    pub(crate) fn of(instance: &Instance, image: &ImagePixel) -> Result<Self, Error> {
        let mut colours = Vec::new();
        let mut first = 0;
        for (channel, tags) in TABLES.into_iter().enumerate() {
            let (descriptor, entries) = table(instance, tags, image)?;
            first = descriptor.first;
            colours.resize(colours.len().max(entries.len()), [0; 3]);
            for (colour, entry) in colours.iter_mut().zip(&entries) {
                // The high byte is what an 8-bit display shows of a 16-bit entry.
                colour[channel] = (entry >> (descriptor.bits - 8)).to_le_bytes()[0];
            }
        }
        Ok(Self { first, colours })
    }

    fn colour(&self, value: i32) -> [u8; 3] {
        let index = usize::try_from(value.saturating_sub(self.first)).unwrap_or(0);
        self.colours[index.min(self.colours.len() - 1)]
    }

    /// Display-ready interleaved RGB. Errors with [`Error::Unsupported`] for indices of more than 16 bits.
    pub(crate) fn apply(&self, samples: &Samples) -> Result<Vec<u8>, Error> {
        let mut rgb = Vec::with_capacity(samples.shape().iter().product::<usize>() * 3);
        match samples {
            Samples::U8(array) => array.iter().for_each(|value| rgb.extend(self.colour((*value).into()))),
            Samples::I8(array) => array.iter().for_each(|value| rgb.extend(self.colour((*value).into()))),
            Samples::U16(array) => array.iter().for_each(|value| rgb.extend(self.colour((*value).into()))),
            Samples::I16(array) => array.iter().for_each(|value| rgb.extend(self.colour((*value).into()))),
            _ => return Err(Error::unsupported("palette indices of more than 16 bits")),
        }
        Ok(rgb)
    }
}

fn table(instance: &Instance, tags: [Tag; 3], image: &ImagePixel) -> Result<(Descriptor, Vec<u16>), Error> {
    let missing = || Error::malformed("a table of the palette is missing");
    let [descriptor, plain, segmented] = tags.map(|tag| instance.element(tag));
    let descriptor = Descriptor::of(descriptor.ok_or_else(missing)?, image.signed())?;
    let entries = match (plain, segmented) {
        (Some(plain), _) => lut_entries(plain, &descriptor)?,
        (None, Some(segmented)) => {
            let bytes = lut_bytes(segmented)?;
            let units: Vec<u16> = if descriptor.bits == 8 {
                bytes.iter().map(|byte| u16::from(*byte)).collect()
            } else {
                bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
            };
            expanded(&units, &descriptor)
                .ok_or_else(|| Error::malformed("a segmented table of the palette does not fill its descriptor"))?
        }
        (None, None) => return Err(missing()),
    };
    Ok((descriptor, entries))
}

/// A segmented table in full (PS3.3 C.7.9.2). `units`: opcodes, lengths and entries, all of the width of an entry.
/// Nothing when it makes fewer entries than the descriptor says, or is none.
fn expanded(units: &[u16], descriptor: &Descriptor) -> Option<Vec<u16>> {
    let mut entries = Vec::with_capacity(descriptor.entries);
    let mut at = 0;
    while entries.len() < descriptor.entries {
        let &[opcode, length, ref rest @ ..] = units.get(at..)? else { return None };
        if opcode != 2 {
            at += 2 + segment(opcode, length, rest, &mut entries)?;
            continue;
        }
        if length == 0 {
            return None;
        }
        // An indirect segment: so many segments again, none of them indirect, from an offset in bytes.
        let (offset, width) = match descriptor.bits {
            8 => (rest.get(..4)?.iter().rev().fold(0, |offset, byte| offset << 8 | usize::from(*byte)), 4),
            _ => ((usize::from(*rest.get(1)?) << 16 | usize::from(*rest.first()?)) / 2, 2),
        };
        let mut again = offset;
        for _ in 0..length {
            let &[opcode, length, ref rest @ ..] = units.get(again..)? else { return None };
            again += 2 + segment(opcode, length, rest, &mut entries)?;
            if entries.len() >= descriptor.entries {
                break;
            }
        }
        at += 2 + width;
    }
    entries.truncate(descriptor.entries);
    Some(entries)
}

/// A discrete or a linear segment; answers how many units its entries took. One without entries is none, so that a table
/// ends.
fn segment(opcode: u16, length: u16, rest: &[u16], entries: &mut Vec<u16>) -> Option<usize> {
    let count = usize::from(length);
    match opcode {
        _ if count == 0 => None,
        0 => {
            entries.extend(rest.get(..count)?);
            Some(count)
        }
        1 => {
            let (from, to) = (f64::from(*entries.last()?), f64::from(*rest.first()?));
            let step = (to - from) / f64::from(length);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between two entries
            entries.extend((1..=length).map(|place| (from + step * f64::from(place)).round() as u16));
            Some(1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(entries: usize, bits: u32) -> Descriptor {
        Descriptor { entries, first: 0, bits }
    }

    #[test]
    fn segments_expand_as_the_standard_says() {
        // Three entries, a ramp of four to 40, and from offset 0 both again: the ramp then begins at 3.
        let units = [0, 3, 1, 2, 3, 1, 4, 43, 2, 2, 0, 0];
        let due = [1, 2, 3, 13, 23, 33, 43, 1, 2, 3, 13, 23, 33, 43];
        assert_eq!(expanded(&units, &descriptor(14, 16)).unwrap(), due);
        // The same in bytes: an offset has four of them.
        let bytes = [0, 3, 1, 2, 3, 1, 4, 43, 2, 2, 0, 0, 0, 0];
        assert_eq!(expanded(&bytes, &descriptor(14, 8)).unwrap(), due);
        // An offset is counted in bytes: 10 of them are five words, where the ramp begins.
        let units = [0, 3, 1, 2, 3, 1, 4, 43, 2, 1, 10, 0];
        assert_eq!(expanded(&units, &descriptor(11, 16)).unwrap()[7..], [43; 4]);
        // What is more than the descriptor says is left out.
        assert_eq!(expanded(&[0, 3, 1, 2, 3], &descriptor(2, 16)).unwrap(), [1, 2]);
    }

    #[test]
    fn a_table_that_does_not_fill_its_descriptor_is_none() {
        for units in [
            &[][..],
            &[0],
            &[0, 3, 1, 2],
            &[1, 3, 9],
            &[3, 1, 1],
            &[0, 0, 0, 0],
            &[0, 1, 7, 2, 1, 0],
            &[0, 1, 7, 2, 1, 6, 0],
            &[0, 1, 7, 2, 1, 60_000, 9],
        ] {
            assert_eq!(expanded(units, &descriptor(5, 16)), None, "{units:?}");
        }
    }

    #[test]
    fn an_empty_segment_ends() {
        assert_eq!(expanded(&[2, 60_000, 0, 0].repeat(100), &descriptor(5, 16)), None);
        assert_eq!(expanded(&[&[0, 0][..], &[2, 60_000, 0, 0].repeat(100)].concat(), &descriptor(5, 16)), None);
    }
}
