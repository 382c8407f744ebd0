use dataset::Instance;
use sha2::{Digest, Sha256};

use crate::{
    Error, Limits,
    colour::{self, Palette},
    decode::{Decoded, Samples, decode, with_array},
    grey::{Grey, Padding, Window, each_level, slice},
    image_pixel::Photometric,
    render::{RenderOptions, picture},
    spacing::PixelSpacing,
};

/// What this crate makes of an instance's pixels: the answer of `preread pixels --json`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Description {
    /// How the values mean grey or colour, as in the file.
    pub photometric_interpretation: Photometric,
    /// Transfer Syntax UID.
    pub transfer_syntax_uid: &'static str,
    /// Frames in the instance.
    pub frames: u32,
    /// The frame that `voi8` and what follows it describe, counted from 0.
    pub frame: u32,
    /// The stored values of all frames.
    pub array: ArrayDescription,
    /// The frame as 8-bit levels.
    pub voi8: Voi8,
    /// How [`render`](crate::render) makes grey levels of the frame; nothing for colour.
    pub window: Option<Window>,
    /// The distance between pixels in mm.
    pub pixel_spacing: Option<PixelSpacing>,
    /// Height of a pixel through its width.
    pub aspect: f64,
    /// What had to be decided against or beyond the header.
    pub notes: Vec<String>,
}

/// Stored values after YBR to RGB, before modality and VOI transformation.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ArrayDescription {
    /// Frames (when more than one), rows, columns, samples (when more than one).
    pub shape: Vec<usize>,
    /// The type of a value, as numpy names it.
    pub dtype: &'static str,
    /// The lowest value.
    pub min: f64,
    /// The highest value.
    pub max: f64,
    /// SHA-256 of the values in C order, little endian, in hexadecimal digits.
    pub sha256_le: String,
}

/// A frame as levels of 0 to 255, before rounding and before inversion for the display. Without a window in the file:
/// from the lowest to the highest value of the frame, padding included.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Voi8 {
    /// The mean level.
    pub mean: f64,
    /// Mean levels of a grid of 16 by 16 cells, row by row.
    pub grid16: Vec<Vec<f64>>,
    /// Whether the display shows it inverted; nothing for colour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_inverted: Option<bool>,
    /// How values became levels; nothing for colour, whose level is the mean of its channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// Describes all frames, and one of them in detail. Holds one decoded frame at a time. Errors as
/// [`render`](crate::render).
pub fn describe(instance: &Instance, frame: u32, limits: &Limits) -> Result<Description, Error> {
    let chosen = decode(instance, frame, limits)?;
    let voi8 = voi8(instance, frame, &chosen)?;
    let image = chosen.image.clone();
    let mut shape = chosen.samples.shape().to_vec();
    if image.frames > 1 {
        shape.insert(0, image.frames as usize);
    }
    let dtype = chosen.samples.dtype();
    let mut total = Total { hash: Sha256::new(), range: None };
    if image.frames == 1 {
        total.add(&chosen.samples);
    }
    let picture = picture(instance, frame, chosen, &RenderOptions::default())?;
    if image.frames > 1 {
        for frame in 0..image.frames {
            total.add(&decode(instance, frame, limits)?.samples);
        }
    }
    let (min, max) = total.range.unwrap_or((f64::NAN, f64::NAN));
    let sha256_le = total.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Description {
        photometric_interpretation: image.photometric,
        transfer_syntax_uid: instance.header.transfer_syntax.uid(),
        frames: image.frames,
        frame,
        array: ArrayDescription { shape, dtype, min, max, sha256_le },
        voi8,
        window: picture.window,
        pixel_spacing: picture.pixel_spacing,
        aspect: picture.aspect,
        notes: picture.notes,
    })
}

struct Total {
    hash: Sha256,
    range: Option<(f64, f64)>,
}

impl Total {
    #[expect(clippy::useless_conversion)] // useless for one of eight types
    fn add(&mut self, samples: &Samples) {
        with_array!(samples, array => {
            let mut bytes = Vec::new();
            for values in slice(array).chunks(1 << 12) {
                bytes.clear();
                for value in values {
                    bytes.extend_from_slice(&value.to_le_bytes());
                    let value = f64::from(*value);
                    let (low, high) = self.range.unwrap_or((value, value));
                    self.range = Some((low.min(value), high.max(value)));
                }
                self.hash.update(&bytes);
            }
        });
    }
}

fn voi8(instance: &Instance, frame: u32, decoded: &Decoded) -> Result<Voi8, Error> {
    let image = &decoded.image;
    let mut levels: Vec<f32> = Vec::with_capacity(image.pixels());
    let mut of_colour = |rgb: &[u8]| {
        levels.extend(rgb.chunks_exact(3).map(|pixel| pixel.iter().copied().map(f32::from).sum::<f32>() / 3.0));
    };
    let mut display = (None, None);
    match decoded.photometric {
        Photometric::Monochrome1 | Photometric::Monochrome2 => {
            let grey = Grey::of(instance, frame, image, &decoded.samples, None, Padding::Counts)?;
            #[expect(clippy::cast_possible_truncation)] // a level of 0 to 255 loses nothing that counts
            each_level(&decoded.samples, |stored| grey.level(stored) as f32, |level| levels.push(level));
            display = (Some(grey.inverted), Some(grey.window));
        }
        Photometric::PaletteColor => of_colour(&Palette::of(instance, image)?.apply(&decoded.samples)?),
        _ => of_colour(&colour::rgb8(decoded.samples.clone(), image)?),
    }
    let (rows, columns) = (image.rows as usize, image.columns as usize);
    let mean = |rows: std::ops::Range<usize>, from: usize, to: usize| {
        let pixels = rows.len() * (to - from);
        let of_row =
            |row: usize| levels[row * columns + from..row * columns + to].iter().copied().map(f64::from).sum::<f64>();
        rounded(rows.map(of_row).sum::<f64>() / pixels as f64)
    };
    // A cell has at least one pixel, so that an image of fewer than 16 rows has a grid too.
    let cell =
        |index: usize, length: usize| (index * length / 16, ((index + 1) * length / 16).max(index * length / 16 + 1));
    let grid16 = (0..16).map(|i| {
        let (top, bottom) = cell(i, rows);
        (0..16).map(|j| cell(j, columns)).map(|(left, right)| mean(top..bottom, left, right)).collect()
    });
    let grid16 = grid16.collect();
    Ok(Voi8 { mean: mean(0..rows, 0, columns), grid16, display_inverted: display.0, window: display.1 })
}

/// Three digits after the point: a thousandth of a grey level, in a document that a person may read.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
