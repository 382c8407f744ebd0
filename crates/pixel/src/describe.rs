use dataset::{Instance, tags};
use sha2::{Digest, Sha256};

use crate::{
    Budget, Error, Limits, Rendered,
    colour::{self, Palette},
    decode::{Decoded, Samples, with_array},
    grey::{Grey, Offered, Padding, Window, each_level, offered_windows, slice},
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
    /// What the file offers instead of `window`; nothing for colour.
    pub offered_windows: Vec<Offered>,
    /// Whether the file says by an ICC profile what its colours are. It is not applied: models are trained without.
    pub icc_profile: bool,
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

/// Describes all frames, and one of them in detail. Holds one decoded frame at a time, and takes no more time than a study
/// may. Errors as [`render`](crate::render).
pub fn describe(instance: &Instance, frame: u32, limits: &Limits) -> Result<Description, Error> {
    let mut budget = Budget::new(limits);
    let chosen = budget.decode(instance, frame)?;
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
    let picture = Rendered { rgb: Vec::new(), ..picture(instance, frame, chosen, &RenderOptions::default())? };
    if image.frames > 1 {
        for frame in 0..image.frames {
            total.add(&budget.decode(instance, frame)?.samples);
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
        offered_windows: if image.photometric.is_grey() { offered_windows(instance, frame)? } else { Vec::new() },
        icc_profile: has_icc_profile(instance),
        pixel_spacing: picture.pixel_spacing,
        aspect: picture.aspect,
        notes: picture.notes,
    })
}

/// Whether there is an ICC Profile (0028,2000), of the image (PS3.3 C.11.15) or of an optical path (C.8.12.5).
fn has_icc_profile(instance: &Instance) -> bool {
    let paths = instance.element(tags::OPTICAL_PATH_SEQUENCE).and_then(|element| element.items()).unwrap_or_default();
    instance.element(tags::ICC_PROFILE).is_some() || paths.iter().any(|path| path.get(tags::ICC_PROFILE).is_some())
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
    let mut grid = Grid::new(image.rows as usize, image.columns as usize);
    let of_pixel = |pixel: &[u8]| pixel.iter().copied().map(f32::from).sum::<f32>() / 3.0;
    let mut display = (None, None);
    match decoded.photometric {
        Photometric::Monochrome1 | Photometric::Monochrome2 => {
            let grey = Grey::of(instance, frame, image, &decoded.samples, None, Padding::Counts)?;
            #[expect(clippy::cast_possible_truncation)] // a level of 0 to 255 loses nothing that counts
            each_level(&decoded.samples, |stored| grey.level(stored) as f32, |level| grid.add(level));
            display = (Some(grey.inverted), Some(grey.window));
        }
        Photometric::PaletteColor => {
            let rgb = Palette::of(instance, image)?.apply(&decoded.samples)?;
            rgb.chunks_exact(3).for_each(|pixel| grid.add(of_pixel(pixel)));
        }
        _ => colour::each_rgb8(&decoded.samples, image, |pixel| grid.add(of_pixel(&pixel)))?,
    }
    let (mean, grid16) = grid.means();
    Ok(Voi8 { mean, grid16, display_inverted: display.0, window: display.1 })
}

/// Sums over cells of an image whose levels come one by one. A cell has at least one pixel, so that an image of fewer
/// than 16 rows has a grid too: neighbours then share a row.
struct Grid {
    /// First row or column of a cell, and the one after its last.
    rows: [(usize, usize); 16],
    columns: [(usize, usize); 16],
    pixels: f64,
    /// The levels of the row that is not yet full.
    row: Vec<f32>,
    length: usize,
    done: usize,
    sum: f64,
    cells: [[f64; 16]; 16],
}

impl Grid {
    fn new(rows: usize, columns: usize) -> Self {
        let cell = |index: usize, length: usize| {
            let first = index * length / 16;
            (first, ((index + 1) * length / 16).max(first + 1))
        };
        Self {
            rows: std::array::from_fn(|index| cell(index, rows)),
            columns: std::array::from_fn(|index| cell(index, columns)),
            pixels: (rows * columns) as f64,
            row: Vec::with_capacity(columns),
            length: columns,
            done: 0,
            sum: 0.0,
            cells: [[0.0; 16]; 16],
        }
    }

    fn add(&mut self, level: f32) {
        self.row.push(level);
        if self.row.len() < self.length {
            return;
        }
        let of = |levels: &[f32]| levels.iter().copied().map(f64::from).sum::<f64>();
        self.sum += of(&self.row);
        let sums = self.columns.map(|(left, right)| of(&self.row[left..right]));
        for (cells, (top, bottom)) in self.cells.iter_mut().zip(self.rows) {
            if (top..bottom).contains(&self.done) {
                cells.iter_mut().zip(sums).for_each(|(cell, sum)| *cell += sum);
            }
        }
        self.row.clear();
        self.done += 1;
    }

    /// The mean of all, and of each cell.
    fn means(&self) -> (f64, Vec<Vec<f64>>) {
        let of_row = |(cells, (top, bottom)): (&[f64; 16], (usize, usize))| {
            let mean =
                |(sum, (left, right)): (&f64, (usize, usize))| rounded(sum / ((bottom - top) * (right - left)) as f64);
            cells.iter().zip(self.columns).map(mean).collect()
        };
        (rounded(self.sum / self.pixels), self.cells.iter().zip(self.rows).map(of_row).collect())
    }
}

/// Three digits after the point: a thousandth of a grey level, in a document that a person may read.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
