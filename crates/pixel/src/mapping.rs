/// A point of an image: column and row, sub-pixel. (0, 0) is the upper left corner of the upper left pixel, whose
/// centre is (0.5, 0.5), as in a spatial coordinate of an SR (PS3.3 C.18.6.1.2).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Point {
    /// Columns from the left edge.
    pub column: f64,
    /// Rows from the upper edge.
    pub row: f64,
}

/// Where a point of a source frame lies in what a model sees, and back: a scale and an offset per axis, so it stands for
/// any chain of resizing, cropping and padding.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Mapping {
    /// Model pixels per source column and per source row.
    scale: [f64; 2],
    /// Where the source's upper left corner lies in the model input, in model pixels.
    offset: [f64; 2],
}

impl Default for Mapping {
    fn default() -> Self {
        Self::IDENTITY
    }
}

impl Mapping {
    /// The model sees the source frame as it is.
    pub const IDENTITY: Self = Self { scale: [1.0, 1.0], offset: [0.0, 0.0] };

    /// Then resized from one size to another, each as (width, height) and not 0.
    #[must_use]
    pub fn resized(self, from: (u32, u32), to: (u32, u32)) -> Self {
        let factor = [f64::from(to.0) / f64::from(from.0.max(1)), f64::from(to.1) / f64::from(from.1.max(1))];
        self.then(Self { scale: factor, offset: [0.0, 0.0] })
    }

    /// Then cropped: the pixel at (`left`, `top`) becomes the upper left one.
    #[must_use]
    pub fn cropped(self, left: f64, top: f64) -> Self {
        self.padded(-left, -top)
    }

    /// Then padded by `left` pixels on the left and `top` pixels above.
    #[must_use]
    pub fn padded(self, left: f64, top: f64) -> Self {
        self.then(Self { scale: [1.0, 1.0], offset: [left, top] })
    }

    /// This mapping and then another one.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let axis = |i: usize| (self.scale[i] * next.scale[i], self.offset[i] * next.scale[i] + next.offset[i]);
        let (columns, rows) = (axis(0), axis(1));
        Self { scale: [columns.0, rows.0], offset: [columns.1, rows.1] }
    }

    /// Where a point of the source frame lies in the model input.
    pub fn to_model(&self, source: Point) -> Point {
        Point {
            column: source.column * self.scale[0] + self.offset[0],
            row: source.row * self.scale[1] + self.offset[1],
        }
    }

    /// Where a point of the model input lies in the source frame; outside of it where the model saw padding.
    pub fn to_source(&self, model: Point) -> Point {
        Point {
            column: (model.column - self.offset[0]) / self.scale[0],
            row: (model.row - self.offset[1]) / self.scale[1],
        }
    }
}
