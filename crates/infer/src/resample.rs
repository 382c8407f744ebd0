//! Pillow's resize of 8-bit images, bit for bit: the models were trained behind it.
//!
//! Antialiased convolution in 22-bit fixed point, horizontal pass first, rounded to 8 bits between the passes
//! (Pillow `src/libImaging/Resample.c`). `fast_image_resize` keeps its coefficients in 16 bits, which moves some pixels
//! by one grey level.

use crate::{
    error::{Error, Result},
    image::Image,
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

/// Source pixels one destination pixel is made of: the first one, and a fixed-point weight for each.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Resizes to `width` by `height` pixels, both positive.
pub(crate) fn resize(image: &Image, width: u32, height: u32, filter: Filter) -> Image {
    if (width, height) == (image.width, image.height) {
        return image.clone();
    }
    if filter == Filter::Nearest {
        return nearest(image, width, height);
    }
    let mut out = image.clone();
    if width != out.width {
        out = horizontal(&out, width, filter);
    }
    if height != out.height {
        out = vertical(&out, height, filter);
    }
    out
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Pillow's own conversions")]
fn taps(source: u32, target: u32, filter: Filter) -> Vec<Taps> {
    let scale = f64::from(source) / f64::from(target);
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let one = f64::from(1 << PRECISION_BITS);
    (0..target)
        .map(|position| {
            let center = (f64::from(position) + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as u32;
            let last = ((center + support + 0.5) as u32).min(source);
            let exact: Vec<f64> =
                (first..last).map(|x| filter.weight((f64::from(x) - center + 0.5) / stretch)).collect();
            let sum: f64 = exact.iter().sum();
            let fixed = |weight: f64| (weight / if sum == 0.0 { 1.0 } else { sum } * one).round() as i32;
            Taps { first: first as usize, weights: exact.into_iter().map(fixed).collect() }
        })
        .collect()
}

#[expect(clippy::cast_sign_loss, reason = "clamped to 0..=255 first")]
fn round(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

fn horizontal(image: &Image, width: u32, filter: Filter) -> Image {
    let taps = taps(image.width, width, filter);
    let mut rgb = Vec::with_capacity(taps.len() * image.height as usize * 3);
    for row in image.rgb.chunks_exact(image.width as usize * 3) {
        for tap in &taps {
            let mut sum = [1i32 << (PRECISION_BITS - 1); 3];
            for (weight, pixel) in tap.weights.iter().zip(row[tap.first * 3..].chunks_exact(3)) {
                sum[0] += weight * i32::from(pixel[0]);
                sum[1] += weight * i32::from(pixel[1]);
                sum[2] += weight * i32::from(pixel[2]);
            }
            rgb.extend(sum.map(round));
        }
    }
    Image { width, height: image.height, rgb }
}

fn vertical(image: &Image, height: u32, filter: Filter) -> Image {
    let stride = image.width as usize * 3;
    let mut rgb = Vec::with_capacity(stride * height as usize);
    let mut sums = vec![0i32; stride];
    for tap in taps(image.height, height, filter) {
        sums.fill(1 << (PRECISION_BITS - 1));
        for (weight, row) in tap.weights.iter().zip(image.rgb[tap.first * stride..].chunks_exact(stride)) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += weight * i32::from(*value);
            }
        }
        rgb.extend(sums.iter().map(|sum| round(*sum)));
    }
    Image { width: image.width, height, rgb }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "inside the image by construction")]
fn nearest(image: &Image, width: u32, height: u32) -> Image {
    let source = |position: u32, from: u32, to: u32| {
        ((f64::from(position) + 0.5) * f64::from(from) / f64::from(to)).floor().min(f64::from(from - 1)) as usize
    };
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        let row = source(y, image.height, height) * image.width as usize;
        for x in 0..width {
            let at = (row + source(x, image.width, width)) * 3;
            rgb.extend_from_slice(&image.rgb[at..at + 3]);
        }
    }
    Image { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// 97 x 61 pixels of a linear congruential generator.
    fn noise() -> Image {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12345) & 0x7fff_ffff;
            state.to_le_bytes()[2]
        };
        Image { width: 97, height: 61, rgb: (0..97 * 61 * 3).map(|_| next()).collect() }
    }

    #[test]
    fn is_pillow_bit_for_bit() {
        // First bytes of the SHA-256 of Pillow 13.0's `resize` of the same noise.
        let check = |code: u64, width: u32, height: u32, expected: &str| {
            let out = resize(&noise(), width, height, Filter::from_code(code).expect("a code"));
            let digest: String = Sha256::digest(&out.rgb).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
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
        let grey = Image { width: 5, height: 7, rgb: vec![200; 5 * 7 * 3] };
        for code in 0..6 {
            let out = resize(&grey, 11, 3, Filter::from_code(code).expect("a code"));
            assert!(out.rgb.iter().all(|value| *value == 200), "filter {code}");
        }
        assert!(Filter::from_code(6).is_err());
    }
}
