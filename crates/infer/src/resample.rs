//! Pillow's resize of 8-bit images, bit for bit: the models were trained behind it.
//!
//! Antialiased convolution in 22-bit fixed point, a pass for each axis, rounded to 8 bits between the passes
//! (Pillow `src/libImaging/Resample.c`). `fast_image_resize` keeps its coefficients in 16 bits, which moves some pixels
//! by one grey level.

use std::borrow::Cow;

use crate::{
    error::{Error, Result},
    vectorized::vectorized,
};

/// Interpolation filters by Pillow's codes, as `resample` of an image processor names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    Nearest,
    Lanczos,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
}

impl Filter {
    pub(crate) fn from_code(code: u64) -> Result<Self> {
        Ok(match code {
            0 => Self::Nearest,
            1 => Self::Lanczos,
            2 => Self::Bilinear,
            3 => Self::Bicubic,
            4 => Self::Box,
            5 => Self::Hamming,
            _ => {
                return Err(Error::unsupported(
                    format!("resample {code}"),
                    "Pillow's codes 0 to 5 (nearest, Lanczos, bilinear, bicubic, box, Hamming)",
                    "correct `resample`",
                ));
            }
        })
    }

    /// Half width of the filter, in pixels of the coarser grid.
    fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        use std::f64::consts::PI;
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        match self {
            Self::Nearest => 0.0,
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Hamming if x == 0.0 => 1.0,
            Self::Hamming if x.abs() >= 1.0 => 0.0,
            Self::Hamming => sinc(x.abs()) * (0.54 + 0.46 * (x.abs() * PI).cos()),
            Self::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Self::Lanczos => {
                if (-3.0..3.0).contains(&x) {
                    sinc(x) * sinc(x / 3.0)
                } else {
                    0.0
                }
            }
        }
    }
}

const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Which pass Pillow begins with (13.0, as its results show; before, it was always across). The order shows in the
/// result, because levels are rounded between the passes.
fn down_first(from: (u32, u32), to: (u32, u32)) -> bool {
    let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
    to.1 < from.1 && lost(from.1, to.1) > 2 * lost(from.0, to.0)
}

/// Source levels one destination level is made of: the first one, and a fixed-point weight for each.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// The taps of a row, each with as many weights: a multiple of [`ALONG`], with zeros where a level has no part.
struct Even {
    /// Number of the first level of each.
    firsts: Vec<usize>,
    /// Weights of each, one after the other.
    weights: Vec<i32>,
    /// Weights of one.
    count: usize,
}

/// Resizes a plane of `from` (width, height) levels, row by row, to `to`; all sides are positive.
pub(crate) fn resize_plane(levels: &[u8], from: (u32, u32), to: (u32, u32), filter: Filter) -> Vec<u8> {
    if from == to {
        return levels.to_vec();
    }
    if filter == Filter::Nearest {
        return nearest(levels, from, to);
    }
    vectorized(
        #[inline(always)]
        || {
            let mut passes = [(true, from.0 != to.0), (false, from.1 != to.1)];
            if down_first(from, to) {
                passes.reverse();
            }
            let (mut levels, mut width) = (Cow::Borrowed(levels), from.0);
            for (across, _) in passes.into_iter().filter(|(_, needed)| *needed) {
                if across {
                    levels = Cow::Owned(horizontal(&levels, width, &taps(from.0, to.0, filter)));
                    width = to.0;
                } else {
                    levels = Cow::Owned(vertical(&levels, width, &taps(from.1, to.1, filter)));
                }
            }
            levels.into_owned()
        },
    )
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Pillow's own conversions")]
fn taps(source: u32, target: u32, filter: Filter) -> Vec<Taps> {
    let scale = f64::from(source) / f64::from(target);
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    // Multiplied by the reciprocal, as Pillow does: dividing moves some weights by one unit.
    let shrink = 1.0 / stretch;
    let one = f64::from(1 << PRECISION_BITS);
    (0..target)
        .map(|position| {
            let center = (f64::from(position) + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as u32;
            let last = ((center + support + 0.5) as u32).min(source);
            let exact: Vec<f64> =
                (first..last).map(|x| filter.weight((f64::from(x) - center + 0.5) * shrink)).collect();
            let sum: f64 = exact.iter().sum();
            let fixed = |weight: f64| (weight / if sum == 0.0 { 1.0 } else { sum } * one).round() as i32;
            Taps { first: first as usize, weights: exact.into_iter().map(fixed).collect() }
        })
        .collect()
}

/// Levels multiplied at a time along a row, and across columns.
const ALONG: usize = 8;
const ACROSS: usize = 32;

// Sums wrap rather than being checked: the weights of a level sum to 2^22, those below zero to at most a third of
// that, so nothing wraps, and a check for each product would keep them from being computed side by side.

#[expect(clippy::cast_sign_loss, reason = "clamped to 0..=255 first")]
#[inline(always)]
fn round(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

impl Even {
    /// For rows of at least as many levels as one of the taps has weights then.
    fn of(taps: &[Taps], width: usize) -> Self {
        let count = taps.iter().map(|tap| tap.weights.len()).max().unwrap_or(1).next_multiple_of(ALONG);
        let width = width.max(count);
        let mut even = Self { firsts: Vec::with_capacity(taps.len()), weights: vec![0; taps.len() * count], count };
        for (tap, weights) in taps.iter().zip(even.weights.chunks_exact_mut(count)) {
            let first = tap.first.min(width - count);
            weights[tap.first - first..][..tap.weights.len()].copy_from_slice(&tap.weights);
            even.firsts.push(first);
        }
        even
    }
}

#[inline(always)]
fn horizontal(levels: &[u8], width: u32, taps: &[Taps]) -> Vec<u8> {
    let width = width as usize;
    let even = Even::of(taps, width);
    let mut out = vec![0; levels.len() / width * taps.len()];
    // Where a row has fewer levels than a tap has weights, zeros follow it.
    let mut sums = vec![[0; ALONG]; taps.len()];
    let mut short = vec![0; if width < even.count { even.count } else { 0 }];
    for (row, out) in levels.chunks_exact(width).zip(out.chunks_exact_mut(taps.len())) {
        let row = if short.is_empty() {
            row
        } else {
            short[..width].copy_from_slice(row);
            &short
        };
        // The usual counts are compiled for each: a loop over a handful of weights costs more than they do.
        match even.count / ALONG {
            1 => weigh_few::<1>(row, &even, &mut sums),
            2 => weigh_few::<2>(row, &even, &mut sums),
            3 => weigh_few::<3>(row, &even, &mut sums),
            4 => weigh_few::<4>(row, &even, &mut sums),
            _ => weigh_along(row, &even, &mut sums),
        }
        for (level, sums) in out.iter_mut().zip(&sums) {
            let mut sum = 1 << (PRECISION_BITS - 1);
            for lane in sums {
                sum = i32::wrapping_add(sum, *lane);
            }
            *level = round(sum);
        }
    }
    out
}

/// Sums for each level of a row, in lanes: added up at once, each product would be before it is summed.
#[inline(always)]
fn weigh_along(row: &[u8], even: &Even, out: &mut [[i32; ALONG]]) {
    for ((out, first), weights) in out.iter_mut().zip(&even.firsts).zip(even.weights.chunks_exact(even.count)) {
        let levels = row[*first..*first + even.count].as_chunks().0;
        *out = weigh(levels, weights.as_chunks().0);
    }
}

/// The same for `CHUNKS` times [`ALONG`] weights.
#[inline(always)]
fn weigh_few<const CHUNKS: usize>(row: &[u8], even: &Even, out: &mut [[i32; ALONG]]) {
    let weights = even.weights.as_chunks::<ALONG>().0.as_chunks::<CHUNKS>().0;
    for ((out, first), weights) in out.iter_mut().zip(&even.firsts).zip(weights) {
        if let Some(levels) = row[*first..].as_chunks().0.first_chunk::<CHUNKS>() {
            *out = weigh(levels, weights);
        }
    }
}

#[inline(always)]
fn weigh(levels: &[[u8; ALONG]], weights: &[[i32; ALONG]]) -> [i32; ALONG] {
    let mut sums = [0i32; ALONG];
    for (levels, weights) in levels.iter().zip(weights) {
        for lane in 0..ALONG {
            sums[lane] = sums[lane].wrapping_add(weights[lane].wrapping_mul(i32::from(levels[lane])));
        }
    }
    sums
}

#[inline(always)]
fn vertical(levels: &[u8], width: u32, taps: &[Taps]) -> Vec<u8> {
    let width = width as usize;
    let mut out = vec![0; taps.len() * width];
    for (row, tap) in out.chunks_exact_mut(width).zip(taps) {
        let levels = &levels[tap.first * width..];
        let (blocks, rest) = row.as_chunks_mut::<ACROSS>();
        for (index, block) in blocks.iter_mut().enumerate() {
            let mut sums = [1i32 << (PRECISION_BITS - 1); ACROSS];
            for (y, weight) in tap.weights.iter().enumerate() {
                let Some(levels) = levels[y * width + index * ACROSS..].first_chunk::<ACROSS>() else { continue };
                for lane in 0..ACROSS {
                    sums[lane] = sums[lane].wrapping_add(weight.wrapping_mul(i32::from(levels[lane])));
                }
            }
            for lane in 0..ACROSS {
                block[lane] = round(sums[lane]);
            }
        }
        let begin = width - rest.len();
        for (x, level) in rest.iter_mut().enumerate() {
            let mut sum = 1 << (PRECISION_BITS - 1);
            for (y, weight) in tap.weights.iter().enumerate() {
                sum = i32::wrapping_add(sum, weight.wrapping_mul(levels[y * width + begin + x].into()));
            }
            *level = round(sum);
        }
    }
    out
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "inside the image by construction")]
fn nearest(levels: &[u8], from: (u32, u32), to: (u32, u32)) -> Vec<u8> {
    // Pillow adds the step up from pixel to pixel; multiplied, it would fall on other pixels at some borders.
    let sources = |from: u32, to: u32| -> Vec<usize> {
        let step = f64::from(from) / f64::from(to);
        let positions = std::iter::successors(Some(step * 0.5), |position| Some(position + step));
        positions.take(to as usize).map(|position| (position as usize).min(from as usize - 1)).collect()
    };
    let columns = sources(from.0, to.0);
    let mut out = Vec::with_capacity(to.0 as usize * to.1 as usize);
    for y in sources(from.1, to.1) {
        let row = &levels[y * from.0 as usize..][..from.0 as usize];
        out.extend(columns.iter().map(|x| row[*x]));
    }
    out
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// 97 x 61 RGB pixels of a linear congruential generator.
    fn noise() -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12345) & 0x7fff_ffff;
            state.to_le_bytes()[2]
        };
        (0..97 * 61 * 3).map(|_| next()).collect()
    }

    /// Resized plane by plane, interleaved again.
    fn resized(rgb: &[u8], from: (u32, u32), to: (u32, u32), filter: Filter) -> Vec<u8> {
        let planes = [0, 1, 2].map(|channel| {
            let levels: Vec<u8> = rgb.chunks_exact(3).map(|pixel| pixel[channel]).collect();
            resize_plane(&levels, from, to, filter)
        });
        (0..planes[0].len()).flat_map(|at| [planes[0][at], planes[1][at], planes[2][at]]).collect()
    }

    #[test]
    fn is_pillow_bit_for_bit() {
        // First bytes of the SHA-256 of Pillow 13.0's `resize` of the same noise.
        let check = |code: u64, width: u32, height: u32, expected: &str| {
            let out = resized(&noise(), (97, 61), (width, height), Filter::from_code(code).expect("a code"));
            let digest: String = Sha256::digest(&out).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, expected, "filter {code} to {width} x {height}");
        };
        check(0, 31, 17, "491995ec22f4952c");
        check(0, 200, 150, "4ae179904c993f8d");
        check(0, 97, 20, "a5bef4667f64a158");
        check(1, 31, 17, "d181311b1f2f9473");
        check(1, 200, 150, "8830f887c786b887");
        check(1, 97, 20, "45f7e8289089ec23");
        check(1, 13, 61, "981be909197fddfa");
        check(1, 1, 1, "4ac5fe6b86e178f6");
        check(2, 31, 17, "45fc49e2d7dd5d92");
        check(2, 200, 150, "76e219fe399d1fff");
        check(2, 97, 20, "536e1e1670b6609c");
        check(2, 13, 61, "7c8b604e6d4b7b2a");
        check(3, 31, 17, "26e9c1561a7c6ced");
        check(3, 200, 150, "c7052e7b3206db98");
        check(3, 97, 20, "9635c62fb00af8b4");
        check(3, 13, 61, "be138cf951771996");
        check(3, 64, 64, "61a4abe0da691e4e");
        check(4, 31, 17, "2186c9773a435a90");
        check(4, 200, 150, "4ae179904c993f8d");
        check(4, 13, 61, "a266c591a210961e");
        check(5, 31, 17, "592fe357ea86d7c9");
        check(5, 200, 150, "87e653b76df3a35d");
        check(5, 13, 61, "3444be5f1f0bd9d0");
    }

    #[test]
    fn a_constant_image_stays_constant() {
        for code in 0..6 {
            let out = resize_plane(&[200; 5 * 7], (5, 7), (11, 3), Filter::from_code(code).expect("a code"));
            assert_eq!(out, [200; 11 * 3], "filter {code}");
        }
        assert!(Filter::from_code(6).is_err());
    }
}
