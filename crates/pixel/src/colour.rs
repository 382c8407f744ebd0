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
    // What the equations add to a luminance has whole numerators over these.
    const THOUSANDTHS: i64 = 1000;
    const OF_GREEN: i64 = 587 * THOUSANDTHS;
    // Green has two summands, each off by half a unit at most: less than what keeps one fraction from the next.
    const FRACTION: u32 = 22;
    let (half, highest) = (1i64 << (bits - 1), (1i64 << bits) - 1);
    let rounded = |numerator: i64, denominator: i64| (2 * numerator + denominator).div_euclid(2 * denominator);
    // What a colour difference adds to its own colour, and to green. The half that rounds is in one of the two, with a
    // unit for what they are off by.
    let half_up = (1 << (FRACTION - 1)) + 1;
    let of_red = |red| [rounded(1402 * red, THOUSANDTHS), rounded((-299 * 1402 * red) << FRACTION, OF_GREEN)];
    let of_blue =
        |blue| [rounded(1772 * blue, THOUSANDTHS), rounded((-114 * 1772 * blue) << FRACTION, OF_GREEN) + half_up];
    let (of_red, of_blue): (Vec<_>, Vec<_>) = (-half..half).map(|it| (of_red(it), of_blue(it))).unzip();
    let (of_red, of_blue) = (of_red.as_slice(), of_blue.as_slice());
    let at = |table: &[[i64; 2]], value: T| table[usize::try_from(value.into().min(highest)).unwrap_or(0)];
    let moved = |y: i64, by: i64| narrow(y.wrapping_add(by).clamp(0, highest));
    for pixel in cells.as_chunks_mut::<3>().0 {
        let [y, blue, red] = *pixel;
        let (y, [blue, green], [red, less_green]) = (y.into(), at(of_blue, blue), at(of_red, red));
        *pixel = [moved(y, red), moved(y, green.wrapping_add(less_green) >> FRACTION), moved(y, blue)];
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
        let rounded = |numerator: i64, denominator: i64| {
            u8::try_from((2 * numerator + denominator).div_euclid(2 * denominator).clamp(0, 255)).expect("clamped")
        };
        for y in 0..=255u8 {
            let pairs = (0..=255u8).flat_map(|blue| (0..=255u8).map(move |red| [y, blue, red]));
            let ybr: Vec<[u8; 3]> = pairs.collect();
            let mut rgb = ybr.concat();
            each_ybr(&mut rgb, 8, |value| value.to_le_bytes()[0]);
            for ([y, blue, red], found) in ybr.iter().zip(rgb.chunks_exact(3)) {
                let (y, blue, red) = (i64::from(*y), i64::from(*blue) - 128, i64::from(*red) - 128);
                let expected = [
                    rounded(1000 * y + 1402 * red, 1000),
                    rounded(587_000 * y - 114 * 1772 * blue - 299 * 1402 * red, 587_000),
                    rounded(1000 * y + 1772 * blue, 1000),
                ];
                assert_eq!(found, expected, "{y} {blue} {red}");
            }
        }
    }

    #[test]
    fn two_pixels_share_their_colour_differences() {
        let cells = upsample_422(Cells::Eight(vec![1, 2, 3, 4]), &image(2)).unwrap();
        assert_eq!(cells, Cells::Eight(vec![1, 3, 4, 2, 3, 4]));
        assert!(upsample_422(Cells::Eight(vec![1, 2, 3, 4]), &image(3)).is_err());
    }
}
