//! What the model attended to, drawn over the picture: an illustration, not a segmentation.

mod font;
mod outline;
mod secondary_capture;

pub use outline::outline;
pub use secondary_capture::secondary_capture;

use std::borrow::Cow;

use crate::{Error, draft::Grid};

/// A picture of 8 bits, row by row.
#[derive(Debug, Clone, Copy)]
pub enum Picture<'a> {
    /// One sample a pixel.
    Grey {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// `width` times `height` samples.
        pixels: &'a [u8],
    },
    /// Three samples a pixel.
    Rgb {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Three times `width` times `height` samples.
        pixels: &'a [u8],
    },
}

/// What the model attended to for one finding.
#[derive(Debug, Clone, Copy)]
pub struct FindingMap<'a> {
    /// The map.
    pub grid: &'a Grid,
    /// Where it lies over the picture; nothing means all over it.
    pub area: Option<Area>,
    /// The finding's sentence.
    pub label: &'a str,
}

/// A part of a picture, in its pixels. It may go beyond the picture where a model saw more than that, as padding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// Columns left of it.
    pub left: f32,
    /// Rows above it.
    pub top: f32,
    /// Its columns, more than 0.
    pub width: f32,
    /// Its rows, more than 0.
    pub height: f32,
}

impl Area {
    /// All of a picture.
    fn whole(width: usize, height: usize) -> Self {
        Self { left: 0.0, top: 0.0, width: width as f32, height: height as f32 }
    }

    /// The same part of the picture in another size.
    fn scaled(self, (across, down): (f32, f32)) -> Self {
        let Self { left, top, width, height } = self;
        Self { left: left * across, top: top * down, width: width * across, height: height * down }
    }
}

/// The line over every heat map.
pub const TITLE: &str = "AI DRAFT - what the model attended to";

/// How much of the colour covers the picture where attention is highest.
const ALPHA: f32 = 0.6;

/// The most pixels of a side of the picture: a larger one is reduced before it is drawn on, as it says where and not what.
const SIDE: usize = 1024;

/// Where the line around a map runs, and the outline of a region: half of its range.
const HALF: f32 = 0.5;

/// A drawn picture of 8 bits: red, green and blue of each pixel, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raster {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Three times `width` times `height` samples.
    pub rgb: Vec<u8>,
}

/// The picture with the maps over it and a line around each where half of its strength begins, under a header with the
/// title and each label, above a bar of the colours. A line surrounds the source. Where maps overlap, the strongest shows.
/// Each map is stretched over its own range: the picture says where, not how much.
pub fn draw(picture: &Picture<'_>, maps: &[FindingMap<'_>]) -> Result<Raster, Error> {
    let whole = canvas(picture)?;
    let Raster { width, height, rgb: mut canvas } = whole.reduced(SIDE).into_owned();
    let reduced = (width as f32 / whole.width as f32, height as f32 / whole.height as f32);
    let area = |map: &FindingMap<'_>| map.area.map_or(Area::whole(width, height), |area| area.scaled(reduced));
    let drawn: Vec<Drawn<'_>> = maps.iter().filter_map(|map| Drawn::new(map.grid, area(map), width, height)).collect();
    if !drawn.is_empty() {
        let mut above = vec![f32::NAN; width];
        for row in 0..height {
            let mut left = f32::NAN;
            for column in 0..width {
                let strongest = drawn.iter().map(|map| map.strength(row, column)).fold(0.0_f32, f32::max);
                let crosses = |before: f32| (before < HALF) != (strongest < HALF) && !before.is_nan();
                let pixel = &mut canvas[(row * width + column) * 3..][..3];
                if crosses(left) || crosses(above[column]) {
                    pixel.fill(255);
                } else if strongest > 0.0 {
                    blend(pixel, ramp(strongest), ALPHA * strongest);
                }
                (left, above[column]) = (strongest, strongest);
            }
        }
    }
    frame(&mut canvas, width, height);
    let mut lines = vec![TITLE];
    lines.extend(maps.iter().map(|map| map.label));
    let (header_height, mut rgb) = font::header(&lines, width);
    rgb.extend(canvas);
    let (bar_height, bar) = colour_bar(width);
    rgb.extend(bar);
    Ok(Raster { width, height: header_height + height + bar_height, rgb })
}

/// A map over a picture, with where each of the picture's rows and columns lies in it.
struct Drawn<'a> {
    grid: &'a Grid,
    low: f32,
    range: f32,
    /// Nothing where a row or column is outside of the map.
    rows: Vec<Option<Between>>,
    columns: Vec<Option<Between>>,
}

/// Between two cells of a map: the first, the second, and how far on the way.
type Between = (usize, usize, f32);

impl<'a> Drawn<'a> {
    /// Over an area of a picture. None for a map that is flat, empty or not finite.
    fn new(grid: &'a Grid, area: Area, width: usize, height: usize) -> Option<Self> {
        let (_, low, high) = stretch(grid)?;
        let rows = (0..height).map(|row| between(row, (area.top, area.height), grid.rows)).collect();
        let columns = (0..width).map(|column| between(column, (area.left, area.width), grid.columns)).collect();
        Some(Self { grid, low, range: high - low, rows, columns })
    }

    /// 0 to 1, bilinear between the centres of the cells; 0 outside of the map.
    fn strength(&self, row: usize, column: usize) -> f32 {
        let value = self.rows[row].zip(self.columns[column]).map(|(row, column)| mix(self.grid, row, column));
        value.map_or(0.0, |value| ((value - self.low) / self.range).clamp(0.0, 1.0))
    }
}

fn mix(grid: &Grid, (top, bottom, down): Between, (left, right, across): Between) -> f32 {
    let value = |row: usize, column: usize| grid.values[row * grid.columns + column];
    let upper = value(top, left) * (1.0 - across) + value(top, right) * across;
    let lower = value(bottom, left) * (1.0 - across) + value(bottom, right) * across;
    upper * (1.0 - down) + lower * down
}

/// Where the middle of a pixel lies between the centres of a map's cells, by where the map begins and how long it is.
fn between(at: usize, (from, length): (f32, f32), cells: usize) -> Option<Between> {
    let at = at as f32 + 0.5 - from;
    if !(0.0..=length).contains(&at) {
        return None;
    }
    let place = (at * cells as f32 / length - 0.5).clamp(0.0, (cells - 1) as f32);
    let cell = place.floor();
    // Clamped to the grid above.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let first = cell as usize;
    Some((first, (first + 1).min(cells - 1), place - cell))
}

/// The same as PNG.
pub fn png(picture: &Picture<'_>, maps: &[FindingMap<'_>]) -> Result<Vec<u8>, Error> {
    draw(picture, maps)?.png()
}

/// What the colours mean, from the least attention to the most.
fn colour_bar(width: usize) -> (usize, Vec<u8>) {
    let (height, mut rgb) = font::header(&["LOW", "", ""], width);
    let (thick, from) = (height / 3, height / 3);
    for row in from..from + thick {
        for column in 0..width {
            let colour = ramp(column as f32 / width.max(2).saturating_sub(1) as f32);
            blend(&mut rgb[(row * width + column) * 3..][..3], colour, 1.0);
        }
    }
    font::right(&mut rgb, width, "HIGH");
    (height, rgb)
}

/// A grey line around the source.
fn frame(canvas: &mut [u8], width: usize, height: usize) {
    for row in 0..height {
        for column in 0..width {
            if row == 0 || column == 0 || row + 1 == height || column + 1 == width {
                canvas[(row * width + column) * 3..][..3].fill(128);
            }
        }
    }
}

impl Raster {
    /// As PNG.
    pub fn png(&self) -> Result<Vec<u8>, Error> {
        encode(self.width, self.height, &self.rgb)
    }

    /// The same picture, no wider and no higher than `most` pixels: means of the pixels that become one.
    pub(crate) fn reduced(&self, most: usize) -> Cow<'_, Self> {
        let factor = self.width.max(self.height).div_ceil(most.max(1)).max(1);
        if factor == 1 {
            return Cow::Borrowed(self);
        }
        let (width, height) = (self.width.div_ceil(factor), self.height.div_ceil(factor));
        let mut rgb = Vec::with_capacity(width * height * 3);
        for row in 0..height {
            let rows = row * factor..((row + 1) * factor).min(self.height);
            for column in 0..width {
                let columns = column * factor..((column + 1) * factor).min(self.width);
                let mut sums = [0_usize; 3];
                for row in rows.clone() {
                    let line = &self.rgb[(row * self.width + columns.start) * 3..(row * self.width + columns.end) * 3];
                    for pixel in line.chunks_exact(3) {
                        sums.iter_mut().zip(pixel).for_each(|(sum, sample)| *sum += usize::from(*sample));
                    }
                }
                let count = rows.len() * columns.len();
                // A mean of samples of 8 bits.
                rgb.extend(sums.map(|sum| u8::try_from(sum / count.max(1)).unwrap_or(u8::MAX)));
            }
        }
        Cow::Owned(Self { width, height, rgb })
    }

    /// The samples in zlib's format, as a PDF has them.
    pub(crate) fn deflated(&self) -> Result<Vec<u8>, Error> {
        use std::io::Write as _;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&self.rgb).and_then(|()| encoder.finish()).map_err(Error::Compression)
    }
}

/// The picture as RGB.
fn canvas(picture: &Picture<'_>) -> Result<Raster, Error> {
    let (width, height, pixels, samples) = match *picture {
        Picture::Grey { width, height, pixels } => (width, height, pixels, 1),
        Picture::Rgb { width, height, pixels } => (width, height, pixels, 3),
    };
    let expected = width.checked_mul(height).and_then(|count| count.checked_mul(samples));
    if expected != Some(pixels.len()) || pixels.is_empty() {
        return Err(Error::Picture { width, height, pixels: pixels.len() });
    }
    let rgb = if samples == 3 { pixels.to_vec() } else { pixels.iter().flat_map(|&grey| [grey; 3]).collect() };
    Ok(Raster { width, height, rgb })
}

/// A map with its range; nothing for one that is flat, empty or not finite.
fn stretch(grid: &Grid) -> Option<(&Grid, f32, f32)> {
    let whole = grid.rows > 0 && grid.columns > 0 && grid.rows.checked_mul(grid.columns) == Some(grid.values.len());
    let low = grid.values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = grid.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (whole && low.is_finite() && high.is_finite() && high > low).then_some((grid, low, high))
}

/// One line of text as wide as a picture of `width` columns, white on black: its rows, and three samples a pixel. Letters
/// that it has no shape for are left out.
pub fn caption(line: &str, width: usize) -> (usize, Vec<u8>) {
    font::header(&[line], width)
}

/// Points of the inferno ramp (matplotlib, CC0): equal steps of value look equal, in grey too.
const RAMP: [[f32; 3]; 8] = [
    [0.0, 0.0, 4.0],
    [40.0, 11.0, 84.0],
    [101.0, 21.0, 110.0],
    [159.0, 42.0, 99.0],
    [212.0, 72.0, 66.0],
    [245.0, 125.0, 21.0],
    [250.0, 193.0, 39.0],
    [252.0, 255.0, 164.0],
];

fn ramp(value: f32) -> [f32; 3] {
    let place = value * (RAMP.len() - 1) as f32;
    // Between 0 and 7: the caller clamps.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let first = (place.floor() as usize).min(RAMP.len() - 2);
    let part = place - first as f32;
    std::array::from_fn(|channel| RAMP[first][channel] * (1.0 - part) + RAMP[first + 1][channel] * part)
}

fn blend(pixel: &mut [u8], colour: [f32; 3], alpha: f32) {
    for (sample, colour) in pixel.iter_mut().zip(colour) {
        let mixed = f32::from(*sample) * (1.0 - alpha) + colour * alpha;
        // A mean of two values between 0 and 255.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let mixed = mixed.round() as u8;
        *sample = mixed;
    }
}

fn encode(width: usize, height: usize, rgb: &[u8]) -> Result<Vec<u8>, Error> {
    let too_large = |_| Error::Picture { width, height, pixels: rgb.len() };
    let (columns, rows) = (u32::try_from(width).map_err(too_large)?, u32::try_from(height).map_err(too_large)?);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, columns, rows);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns, rows and RGB of a PNG.
    fn decode(bytes: &[u8]) -> (usize, usize, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        (info.width as usize, info.height as usize, rgb)
    }

    #[test]
    fn colour_lies_where_attention_is_highest_and_nowhere_else() {
        let pixels = vec![100; 300 * 200];
        let mut grid = Grid { rows: 4, columns: 6, values: vec![0.0; 24] };
        grid.values[6 + 4] = 0.5;
        let map = FindingMap { grid: &grid, area: None, label: "Large nodule in the left upper zone." };
        let bytes = png(&Picture::Grey { width: 300, height: 200, pixels: &pixels }, &[map]).unwrap();
        let (width, height, rgb) = decode(&bytes);
        let around = height - 200;
        assert_eq!((width, around > 14), (300, true));
        let (header, _) = font::header(&["", ""], 300);
        let pixel = |row: usize, column: usize| &rgb[((header + row) * width + column) * 3..][..3];
        assert_eq!(pixel(190, 10), [100, 100, 100], "untouched where there was no attention");
        let hot = pixel(75, 225);
        assert!(hot[0] > 150 && hot[2] < 160 && hot[0] > hot[2], "{hot:?}");
        assert!(rgb[..header * width * 3].contains(&255), "the header has text");
    }

    #[test]
    fn a_map_lies_where_the_model_saw_the_picture() {
        let pixels = vec![100; 300 * 200];
        let grid = Grid { rows: 1, columns: 2, values: vec![1.0, 0.0] };
        // The model saw the right half of the picture, and as much black beyond it.
        let area = Area { left: 150.0, top: 0.0, width: 300.0, height: 200.0 };
        let map = FindingMap { grid: &grid, area: Some(area), label: "" };
        let bytes = png(&Picture::Grey { width: 300, height: 200, pixels: &pixels }, &[map]).unwrap();
        let (width, height, rgb) = decode(&bytes);
        let (header, _) = font::header(&["", ""], width);
        assert!(height > header + 200);
        let pixel = |column: usize| &rgb[((header + 100) * width + column) * 3..][..3];
        assert_eq!(pixel(149), [100, 100, 100]);
        assert!(pixel(151)[0] > 150 && pixel(151) != pixel(290), "{:?} {:?}", pixel(151), pixel(290));
    }

    #[test]
    fn a_picture_is_reduced_by_means() {
        let raster = Raster { width: 4, height: 2, rgb: (0..24).collect() };
        let half = raster.reduced(2).into_owned();
        assert_eq!((half.width, half.height, half.rgb), (2, 1, vec![7, 8, 9, 13, 14, 15]));
        assert_eq!(*raster.reduced(4), raster);
    }

    #[test]
    fn a_map_that_cannot_be_drawn_leaves_the_picture_alone() {
        let pixels = vec![7; 60 * 40 * 3];
        let picture = Picture::Rgb { width: 60, height: 40, pixels: &pixels };
        for values in [vec![], vec![1.0; 4], vec![0.0, f32::NAN, f32::INFINITY, 1.0], vec![1.0, 2.0]] {
            let grid = Grid { rows: 2, columns: 2, values };
            let (width, height, rgb) =
                decode(&png(&picture, &[FindingMap { grid: &grid, area: None, label: "é\u{202e}" }]).unwrap());
            let (header, _) = font::header(&["", ""], width);
            assert!(height > header + 40);
            let inside = (1..39).flat_map(|row| (1..59).map(move |column| ((header + row) * width + column) * 3));
            assert!(inside.flat_map(|at| &rgb[at..at + 3]).all(|sample| *sample == 7));
        }
        let wrong = Picture::Grey { width: 60, height: 41, pixels: &pixels };
        assert!(matches!(png(&wrong, &[]), Err(Error::Picture { .. })));
    }
}
