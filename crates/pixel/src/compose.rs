//! From rendered frames to the images of a model's input, with the way back from each of their points.

use crate::{Layout, Mapping, Montage, Point, Rendered, Turn, resample::resize};

/// An image as a model gets it: 8-bit RGB, rows from the top, and what it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelImage {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Red, green and blue of each pixel, row by row.
    pub rgb: Vec<u8>,
    /// What it shows.
    pub layout: Layout,
}

/// No side of a picture with square pixels is longer: pixels a hundred times as high as wide are a mistake in the file.
const LONGEST_SIDE: f64 = 16_384.0;

impl ModelImage {
    /// A rendered frame, turned so that it stands upright.
    pub fn of(picture: Rendered, turn: Turn) -> Self {
        let size = (picture.width, picture.height);
        let mut layout = Layout::of_frame(picture.source, size.0, size.1);
        let (width, height) = turn.size(size);
        if turn != Turn::None {
            layout = layout.then(Mapping::IDENTITY.turned(turn, size), width, height);
        }
        Self { width, height, rgb: turn.apply::<3>(picture.rgb, size.0, size.1), layout }
    }

    /// The same with pixels as high as wide. `aspect` is a pixel's height through its width; a difference of less than a
    /// hundredth is left alone.
    #[must_use]
    pub fn with_square_pixels(self, aspect: f64) -> Self {
        if !aspect.is_finite() || aspect <= 0.0 || (aspect - 1.0).abs() < 0.01 {
            return self;
        }
        // The side with the larger pixels gets more of them, so that nothing is lost.
        let (width, height) = (f64::from(self.width), f64::from(self.height));
        let (width, height) = if aspect > 1.0 { (width, height * aspect) } else { (width / aspect, height) };
        if width.max(height) > LONGEST_SIDE {
            return self;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded above
        let size = (width.round() as u32, height.round() as u32);
        self.resized(size)
    }

    fn resized(self, to: (u32, u32)) -> Self {
        let from = (self.width, self.height);
        let layout = self.layout.then(Mapping::IDENTITY.resized(from, to), to.0, to.1);
        Self { width: to.0, height: to.1, rgb: resize(self.rgb, from, to), layout }
    }

    /// Several images in one, row by row, each fitted into its place and in the middle of it; what is left is black.
    /// Those beyond the places there are left out.
    pub fn montage(images: Vec<Self>, montage: Montage) -> Self {
        let cell = montage.cell;
        let (width, height) = (montage.columns * cell, montage.rows * cell);
        let mut whole = Self {
            width,
            height,
            rgb: vec![0; width as usize * height as usize * 3],
            layout: Layout { width, height, tiles: Vec::new() },
        };
        let places = (0..montage.rows).flat_map(|row| (0..montage.columns).map(move |column| (column, row)));
        for (image, (column, row)) in images.into_iter().zip(places) {
            let size = fitted((image.width, image.height), cell);
            let image = image.resized(size);
            let (left, top) = (column * cell + (cell - size.0) / 2, row * cell + (cell - size.1) / 2);
            for (line, pixels) in (top..).zip(image.rgb.chunks_exact(size.0 as usize * 3)) {
                let at = (line as usize * width as usize + left as usize) * 3;
                whole.rgb[at..at + pixels.len()].copy_from_slice(pixels);
            }
            let step = Mapping::IDENTITY.padded(left.into(), top.into());
            whole.layout.tiles.extend(image.layout.then(step, width, height).tiles);
        }
        whole
    }

    /// Three windows of the same frames as red, green and blue. Nothing unless they are of one size.
    pub fn channels([red, green, blue]: [Self; 3]) -> Option<Self> {
        if red.layout != green.layout || red.layout != blue.layout {
            return None;
        }
        let mut image = red;
        let others = green.rgb.chunks_exact(3).zip(blue.rgb.chunks_exact(3));
        for (pixel, (green, blue)) in image.rgb.chunks_exact_mut(3).zip(others) {
            pixel[1] = green[1];
            pixel[2] = blue[2];
        }
        Some(image)
    }

    /// What the image shows at a point, as [`Layout::to_source`].
    pub fn to_source(&self, point: Point) -> Option<crate::SourcePoint> {
        self.layout.to_source(point)
    }
}

/// The largest size of the same proportions within a square.
pub(crate) fn fitted((width, height): (u32, u32), cell: u32) -> (u32, u32) {
    let longest = width.max(height).max(1);
    let side = |length: u32| {
        let scaled = (u64::from(length) * u64::from(cell) + u64::from(longest) / 2) / u64::from(longest);
        u32::try_from(scaled).unwrap_or(cell).clamp(1, cell)
    };
    (side(width), side(height))
}
