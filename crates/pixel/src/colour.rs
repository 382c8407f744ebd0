//! Colour: YBR to RGB (PS3.3 C.7.6.3.1.2) and what goes to the display.

use ndarray::ArrayD;

pub(crate) use crate::palette::Palette;
use crate::{Error, Samples, codec::Cells, grey::slice, image_pixel::ImagePixel};

/// Native YBR_FULL_422: two luminances, then the colour differences that both pixels share.
pub(crate) fn upsample_422(cells: Cells, image: &ImagePixel) -> Result<Cells, Error> {
    fn upsampled<T: Copy>(cells: &[T]) -> Vec<T> {
        cells.chunks_exact(4).flat_map(|pair| [pair[0], pair[2], pair[3], pair[1], pair[2], pair[3]]).collect()
    }
    if !image.columns.is_multiple_of(2) {
        return Err(Error::malformed("YBR_FULL_422 with an odd number of columns"));
    }
    match cells {
        Cells::Eight(cells) => Ok(Cells::Eight(upsampled(&cells))),
        Cells::Sixteen(cells) => Ok(Cells::Sixteen(upsampled(&cells))),
        Cells::ThirtyTwo(_) => Err(Error::unsupported("YBR colour of 32 bits")),
    }
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

/// RGB samples to 8 bits: as they are, or scaled by the bits stored.
pub(crate) fn rgb8(samples: Samples, image: &ImagePixel) -> Result<Vec<u8>, Error> {
    match samples {
        Samples::U8(array) if image.bits_stored == 8 => Ok(array.into_raw_vec_and_offset().0),
        samples => {
            let mut rgb = Vec::with_capacity(image.frame_samples());
            each_rgb8(&samples, image, |pixel| rgb.extend(pixel))?;
            Ok(rgb)
        }
    }
}

/// Gives `sink` each pixel of RGB samples as [`rgb8`] makes it.
pub(crate) fn each_rgb8(samples: &Samples, image: &ImagePixel, sink: impl FnMut([u8; 3])) -> Result<(), Error> {
    fn each<T: Copy + Into<u64>>(array: &ArrayD<T>, image: &ImagePixel, mut sink: impl FnMut([u8; 3])) {
        let highest = (1u64 << image.bits_stored) - 1;
        let scaled = |value: T| {
            let value = value.into();
            let level = if highest == 255 { value } else { (value * 255 + highest / 2) / highest };
            level.min(255).to_le_bytes()[0]
        };
        slice(array).chunks_exact(3).for_each(|pixel| sink([pixel[0], pixel[1], pixel[2]].map(scaled)));
    }
    match samples {
        Samples::U8(array) => each(array, image, sink),
        Samples::U16(array) => each(array, image, sink),
        Samples::U32(array) => each(array, image, sink),
        _ => return Err(Error::unsupported("RGB of signed or float samples")),
    }
    Ok(())
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
