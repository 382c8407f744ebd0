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
pub(crate) fn ybr_to_rgb(cells: Cells, image: &ImagePixel) -> Result<Cells, Error> {
    match cells {
        Cells::Eight(mut cells) => {
            each_ybr(&mut cells, image.bits_stored, |value| value.to_le_bytes()[0]);
            Ok(Cells::Eight(cells))
        }
        Cells::Sixteen(mut cells) => {
            each_ybr(&mut cells, image.bits_stored, |value| {
                value.to_le_bytes().first_chunk().map_or(0, |low| u16::from_le_bytes(*low))
            });
            Ok(Cells::Sixteen(cells))
        }
        Cells::ThirtyTwo(_) => Err(Error::unsupported("YBR colour of 32 bits")),
    }
}

/// Converts pixels of `bits` bits; `narrow` takes what fits them.
fn each_ybr<T: Copy + Into<i64>>(cells: &mut [T], bits: u32, narrow: impl Fn(i64) -> T) {
    // The equations' factors in fixed point. What they make of 16 bits is off by 2^15 of these units at most for each
    // factor, and the fractions that can arise, of 587000 at the finest, are 2^16.8 units apart: none becomes another,
    // and a half that is a little too low is made up for where it is rounded.
    const FRACTION: u32 = 36;
    const fn fixed(numerator: i64, denominator: i64) -> i64 {
        ((numerator << (FRACTION + 1)) / denominator + 1) >> 1
    }
    const RED: i64 = fixed(1402, 1000);
    const BLUE: i64 = fixed(1772, 1000);
    const GREEN_OF_BLUE: i64 = fixed(114 * 1772, 587_000);
    const GREEN_OF_RED: i64 = fixed(299 * 1402, 587_000);
    const HALF: i64 = (1 << (FRACTION - 1)) + (1 << 15);
    let (half, highest) = (1i64 << (bits - 1), (1i64 << bits) - 1);
    for pixel in cells.as_chunks_mut::<3>().0 {
        let [y, blue, red] = pixel.map(|sample| sample.into().min(highest));
        let (y, blue, red) =
            (y.wrapping_shl(FRACTION).wrapping_add(HALF), blue.wrapping_sub(half), red.wrapping_sub(half));
        let shown = |value: i64| narrow((value >> FRACTION).clamp(0, highest));
        *pixel = [
            shown(y.wrapping_add(RED.wrapping_mul(red))),
            shown(y.wrapping_sub(GREEN_OF_BLUE.wrapping_mul(blue)).wrapping_sub(GREEN_OF_RED.wrapping_mul(red))),
            shown(y.wrapping_add(BLUE.wrapping_mul(blue))),
        ];
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

    /// The equations times 1000, for red and blue, and times 587000, for green, have whole factors.
    #[test]
    fn halves_are_rounded_up() {
        let check = |bits: u32, step: usize| {
            let (half, highest) = (1i64 << (bits - 1), (1i64 << bits) - 1);
            let rounded = |numerator: i64, denominator: i64| {
                (2 * numerator + denominator).div_euclid(2 * denominator).clamp(0, highest)
            };
            let differences = || (0..=highest).step_by(step).chain([half, highest]);
            for y in [0, half - 1, highest / 3, highest] {
                for blue in differences() {
                    for red in differences() {
                        let mut found = [y, blue, red].map(|sample| u16::try_from(sample).expect("at most 16 bits"));
                        each_ybr(&mut found, bits, |value| u16::try_from(value).expect("at most 16 bits"));
                        let (blue, red) = (blue - half, red - half);
                        let expected = [
                            rounded(1000 * y + 1402 * red, 1000),
                            rounded(587_000 * y - 114 * 1772 * blue - 299 * 1402 * red, 587_000),
                            rounded(1000 * y + 1772 * blue, 1000),
                        ];
                        assert_eq!(found.map(i64::from), expected, "{bits} bits: {y} {blue} {red}");
                    }
                }
            }
        };
        check(8, 1);
        check(12, 11);
        check(16, 101);
    }

    #[test]
    fn two_pixels_share_their_colour_differences() {
        let cells = upsample_422(Cells::Eight(vec![1, 2, 3, 4]), &image(2)).unwrap();
        assert_eq!(cells, Cells::Eight(vec![1, 3, 4, 2, 3, 4]));
        assert!(upsample_422(Cells::Eight(vec![1, 2, 3, 4]), &image(3)).is_err());
    }
}
