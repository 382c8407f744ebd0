//! What the model attended to, drawn over the picture: an illustration, not a segmentation.

mod font;

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

/// The line over every heat map.
pub const TITLE: &str = "AI DRAFT - what the model attended to";

/// How much of the colour covers the picture where attention is highest.
const ALPHA: f32 = 0.6;

/// The picture with the maps over it, under a header with the title and each label, as PNG. Where maps overlap, the
/// strongest shows. Each map is stretched over its own range: the picture says where, not how much.
pub fn png(picture: &Picture<'_>, maps: &[FindingMap<'_>]) -> Result<Vec<u8>, Error> {
    let (width, height, mut canvas) = canvas(picture)?;
    let whole = Area { left: 0.0, top: 0.0, width: width as f32, height: height as f32 };
    let drawn: Vec<(&Grid, Area, f32, f32)> = maps
        .iter()
        .filter_map(|map| stretch(map.grid).map(|(grid, low, high)| (grid, map.area.unwrap_or(whole), low, high)))
        .collect();
    for row in 0..height {
        for column in 0..width {
            let strength = |(grid, area, low, high): &(&Grid, Area, f32, f32)| {
                sample(grid, area, (row, column)).map(|value| (value - low) / (high - low))
            };
            let strongest = drawn.iter().filter_map(strength).fold(0.0_f32, f32::max).clamp(0.0, 1.0);
            let pixel = &mut canvas[(row * width + column) * 3..][..3];
            blend(pixel, ramp(strongest), ALPHA * strongest);
        }
    }
    let mut lines = vec![TITLE];
    lines.extend(maps.iter().map(|map| map.label));
    let (header_height, mut picture) = font::header(&lines, width);
    picture.extend(canvas);
    encode(width, header_height + height, &picture)
}

/// The picture as RGB.
fn canvas(picture: &Picture<'_>) -> Result<(usize, usize, Vec<u8>), Error> {
    let (width, height, pixels, samples) = match *picture {
        Picture::Grey { width, height, pixels } => (width, height, pixels, 1),
        Picture::Rgb { width, height, pixels } => (width, height, pixels, 3),
    };
    let expected = width.checked_mul(height).and_then(|count| count.checked_mul(samples));
    if expected != Some(pixels.len()) || pixels.is_empty() {
        return Err(Error::Picture { width, height, pixels: pixels.len() });
    }
    let canvas = if samples == 3 { pixels.to_vec() } else { pixels.iter().flat_map(|&grey| [grey; 3]).collect() };
    Ok((width, height, canvas))
}

/// A map with its range; nothing for one that is flat, empty or not finite.
fn stretch(grid: &Grid) -> Option<(&Grid, f32, f32)> {
    let whole = grid.rows > 0 && grid.columns > 0 && grid.rows.checked_mul(grid.columns) == Some(grid.values.len());
    let low = grid.values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = grid.values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (whole && low.is_finite() && high.is_finite() && high > low).then_some((grid, low, high))
}

/// The map at a pixel, bilinear between the centres of its cells; nothing outside of its area.
fn sample(grid: &Grid, area: &Area, (row, column): (usize, usize)) -> Option<f32> {
    let along = |at: usize, (from, length): (f32, f32), cells: usize| {
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
    };
    let (top, bottom, down) = along(row, (area.top, area.height), grid.rows)?;
    let (left, right, across) = along(column, (area.left, area.width), grid.columns)?;
    let value = |row: usize, column: usize| grid.values[row * grid.columns + column];
    let upper = value(top, left) * (1.0 - across) + value(top, right) * across;
    let lower = value(bottom, left) * (1.0 - across) + value(bottom, right) * across;
    Some(upper * (1.0 - down) + lower * down)
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
        let header = height - 200;
        assert_eq!((width, header > 14), (300, true));
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
        let pixel = |column: usize| &rgb[((height - 100) * width + column) * 3..][..3];
        assert_eq!(pixel(149), [100, 100, 100]);
        assert!(pixel(151)[0] > 150 && pixel(151) != pixel(290), "{:?} {:?}", pixel(151), pixel(290));
    }

    #[test]
    fn a_map_that_cannot_be_drawn_leaves_the_picture_alone() {
        let pixels = vec![7; 60 * 40 * 3];
        let picture = Picture::Rgb { width: 60, height: 40, pixels: &pixels };
        for values in [vec![], vec![1.0; 4], vec![0.0, f32::NAN, f32::INFINITY, 1.0], vec![1.0, 2.0]] {
            let grid = Grid { rows: 2, columns: 2, values };
            let (width, height, rgb) =
                decode(&png(&picture, &[FindingMap { grid: &grid, area: None, label: "é\u{202e}" }]).unwrap());
            assert!(rgb[(height - 40) * width * 3..].iter().all(|sample| *sample == 7));
        }
        let wrong = Picture::Grey { width: 60, height: 41, pixels: &pixels };
        assert!(matches!(png(&wrong, &[]), Err(Error::Picture { .. })));
    }
}
