//! Colour: YBR to RGB (PS3.3 C.7.6.3.1.2), the palette (C.7.6.3.1.5 and .6), and what goes to the display.

use dataset::{Instance, tags};
use dicom_core::Tag;
use ndarray::ArrayD;

use crate::{
    Error, Samples,
    codec::Cells,
    image_pixel::ImagePixel,
    lut::{Descriptor, lut_entries},
};

/// Native YBR_FULL_422: two luminances, then the colour differences that both pixels share.
pub(crate) fn upsample_422(cells: Cells, image: &ImagePixel) -> Result<Cells, Error> {
    let Cells::Eight(bytes) = cells else {
        return Err(Error::unsupported("YBR_FULL_422 with more than 8 bits"));
    };
    if !image.columns.is_multiple_of(2) {
        return Err(Error::malformed("YBR_FULL_422 with an odd number of columns"));
    }
    Ok(Cells::Eight(
        bytes.chunks_exact(4).flat_map(|pair| [pair[0], pair[2], pair[3], pair[1], pair[2], pair[3]]).collect(),
    ))
}

/// Full range YBR to RGB, rounded half up and clamped (PS3.3 C.7.6.3.1.2, inverse of its equations).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to the cell's range
pub(crate) fn ybr_to_rgb(cells: Cells, image: &ImagePixel) -> Result<Cells, Error> {
    let bits = image.bits_stored;
    let (half, highest) = ((1u64 << (bits - 1)) as f32, ((1u64 << bits) - 1) as f32);
    let rgb = |y: f32, blue: f32, red: f32| {
        let (blue, red) = (blue - half, red - half);
        let green = y - (0.114 * 1.772 / 0.587) * blue - (0.299 * 1.402 / 0.587) * red;
        [y + 1.402 * red, green, y + 1.772 * blue].map(|value| (value + 0.5).floor().clamp(0.0, highest))
    };
    match cells {
        Cells::Eight(mut cells) => {
            for pixel in cells.chunks_exact_mut(3) {
                let values = rgb(pixel[0].into(), pixel[1].into(), pixel[2].into()).map(|value| value as u8);
                pixel.copy_from_slice(&values);
            }
            Ok(Cells::Eight(cells))
        }
        Cells::Sixteen(mut cells) => {
            for pixel in cells.chunks_exact_mut(3) {
                let values = rgb(pixel[0].into(), pixel[1].into(), pixel[2].into()).map(|value| value as u16);
                pixel.copy_from_slice(&values);
            }
            Ok(Cells::Sixteen(cells))
        }
        Cells::ThirtyTwo(_) => Err(Error::unsupported("YBR colour of 32 bits")),
    }
}

/// The three tables of a PALETTE COLOR image, ready for the display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Palette {
    first: i32,
    /// 8-bit red, green, blue by index.
    colours: Vec<[u8; 3]>,
}

impl Palette {
    /// Reads the palette. Errors with [`Error::Malformed`], or [`Error::Unsupported`] for segmented tables.
    pub(crate) fn of(instance: &Instance, image: &ImagePixel) -> Result<Self, Error> {
        let tables = [
            (tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA),
            (tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA),
            (tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA),
        ];
        if instance.element(tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA).is_some() {
            return Err(Error::unsupported("a segmented palette"));
        }
        let mut colours = Vec::new();
        let mut first = 0;
        for (channel, (descriptor_tag, data_tag)) in tables.into_iter().enumerate() {
            let (descriptor, entries) = table(instance, descriptor_tag, data_tag, image)?;
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
        Ok(match samples {
            Samples::U8(array) => array.iter().flat_map(|value| self.colour(i32::from(*value))).collect(),
            Samples::I8(array) => array.iter().flat_map(|value| self.colour(i32::from(*value))).collect(),
            Samples::U16(array) => array.iter().flat_map(|value| self.colour(i32::from(*value))).collect(),
            Samples::I16(array) => array.iter().flat_map(|value| self.colour(i32::from(*value))).collect(),
            _ => return Err(Error::unsupported("palette indices of more than 16 bits")),
        })
    }
}

fn table(
    instance: &Instance,
    descriptor_tag: Tag,
    data_tag: Tag,
    image: &ImagePixel,
) -> Result<(Descriptor, Vec<u16>), Error> {
    let missing = || Error::malformed("a table of the palette is missing");
    let descriptor = instance.element(descriptor_tag).ok_or_else(missing)?;
    let data = instance.element(data_tag).ok_or_else(missing)?;
    let descriptor = Descriptor::of(descriptor, image.signed())?;
    let entries = lut_entries(data, &descriptor)?;
    Ok((descriptor, entries))
}

/// RGB samples to 8 bits: as they are, or scaled by the bits stored.
pub(crate) fn rgb8(samples: Samples, image: &ImagePixel) -> Result<Vec<u8>, Error> {
    match samples {
        Samples::U8(array) if image.bits_stored == 8 => Ok(array.into_raw_vec_and_offset().0),
        Samples::U8(array) => Ok(scaled(&array, image)),
        Samples::U16(array) => Ok(scaled(&array, image)),
        _ => Err(Error::unsupported("RGB of signed, float or 32-bit samples")),
    }
}

fn scaled<T: Copy + Into<u64>>(array: &ArrayD<T>, image: &ImagePixel) -> Vec<u8> {
    let highest = (1u64 << image.bits_stored) - 1;
    array.iter().map(|value| (((*value).into() * 255 + highest / 2) / highest).min(255) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_pixel::{Photometric, Stored};

    fn image(columns: u32) -> ImagePixel {
        ImagePixel {
            rows: 1,
            columns,
            samples: 3,
            bits_allocated: 8,
            bits_stored: 8,
            high_bit: 7,
            stored: Stored::Integer { signed: false },
            planar: false,
            photometric: Photometric::YbrFull,
            frames: 1,
        }
    }

    #[test]
    fn the_primaries_come_back_from_ybr() {
        let ybr = vec![76, 85, 255, 150, 44, 21, 29, 255, 107, 255, 128, 128, 0, 128, 128];
        let Cells::Eight(rgb) = ybr_to_rgb(Cells::Eight(ybr), &image(5)).unwrap() else { panic!("8 bits stay 8 bits") };
        let expected = [254, 0, 0, 0, 255, 1, 0, 0, 254, 255, 255, 255, 0, 0, 0];
        assert!(rgb.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 1), "{rgb:?}");
    }

    #[test]
    fn two_pixels_share_their_colour_differences() {
        let cells = upsample_422(Cells::Eight(vec![1, 2, 3, 4]), &image(2)).unwrap();
        assert_eq!(cells, Cells::Eight(vec![1, 3, 4, 2, 3, 4]));
        assert!(upsample_422(Cells::Eight(vec![1, 2, 3, 4]), &image(3)).is_err());
    }
}
