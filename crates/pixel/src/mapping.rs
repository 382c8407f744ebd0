use crate::{Turn, render::Source};

/// A point of an image: column and row, sub-pixel. (0, 0) is the upper left corner of the upper left pixel, whose
/// centre is (0.5, 0.5), as in a spatial coordinate of an SR (PS3.3 C.18.6.1.2).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Point {
    /// Columns from the left edge.
    pub column: f64,
    /// Rows from the upper edge.
    pub row: f64,
}

/// Where a point of a source frame lies in what a model sees, and back: an affine map that can be undone, so it stands
/// for any chain of turning, resizing, cropping and padding.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Mapping {
    /// What a step of one column (first) and of one row (second) in the source adds to column and row of the model
    /// input.
    matrix: [[f64; 2]; 2],
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
    pub const IDENTITY: Self = Self { matrix: [[1.0, 0.0], [0.0, 1.0]], offset: [0.0, 0.0] };

    /// A scale and an offset per axis (columns, rows), as image processors state what they did: model = source * scale
    /// + offset. Nothing when a scale is zero or a number is not finite, for there is no way back then.
    pub fn scaled(scale: [f64; 2], offset: [f64; 2]) -> Option<Self> {
        let usable = scale.iter().all(|it| it.is_finite() && *it != 0.0) && offset.iter().all(|it| it.is_finite());
        usable.then_some(Self { matrix: [[scale[0], 0.0], [0.0, scale[1]]], offset })
    }

    /// Then resized from one size to another, each as (width, height) and not 0.
    #[must_use]
    pub fn resized(self, from: (u32, u32), to: (u32, u32)) -> Self {
        let factor = |from: u32, to: u32| f64::from(to.max(1)) / f64::from(from.max(1));
        let matrix = [[factor(from.0, to.0), 0.0], [0.0, factor(from.1, to.1)]];
        self.then(Self { matrix, offset: [0.0, 0.0] })
    }

    /// Then cropped: the pixel at (`left`, `top`) becomes the upper left one.
    #[must_use]
    pub fn cropped(self, left: f64, top: f64) -> Self {
        self.padded(-left, -top)
    }

    /// Then padded by `left` pixels on the left and `top` pixels above.
    #[must_use]
    pub fn padded(self, left: f64, top: f64) -> Self {
        self.then(Self { offset: [left, top], ..Self::IDENTITY })
    }

    /// Then turned or mirrored as a whole; `size` is (width, height) before it.
    #[must_use]
    pub fn turned(self, turn: Turn, size: (u32, u32)) -> Self {
        let (matrix, offset) = turn.affine(f64::from(size.0), f64::from(size.1));
        self.then(Self { matrix, offset })
    }

    /// This mapping and then another one.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let matrix = self.matrix.map(|step| next.linear(step));
        let [column, row] = next.linear(self.offset);
        Self { matrix, offset: [column + next.offset[0], row + next.offset[1]] }
    }

    fn linear(&self, [column, row]: [f64; 2]) -> [f64; 2] {
        let [by_column, by_row] = self.matrix;
        [column * by_column[0] + row * by_row[0], column * by_column[1] + row * by_row[1]]
    }

    /// Where a point of the source frame lies in the model input.
    pub fn to_model(&self, source: Point) -> Point {
        let [column, row] = self.linear([source.column, source.row]);
        Point { column: column + self.offset[0], row: row + self.offset[1] }
    }

    /// Where a point of the model input lies in the source frame; outside of it where the model saw padding.
    pub fn to_source(&self, model: Point) -> Point {
        let [[a, c], [b, d]] = self.matrix;
        let (x, y) = (model.column - self.offset[0], model.row - self.offset[1]);
        let determinant = a * d - b * c;
        Point { column: (d * x - b * y) / determinant, row: (a * y - c * x) / determinant }
    }
}

/// A rectangle of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Area {
    /// Columns left of it.
    pub left: f64,
    /// Rows above it.
    pub top: f64,
    /// Its columns.
    pub width: f64,
    /// Its rows.
    pub height: f64,
}

impl Area {
    /// All of an image of this size.
    pub fn of_size(width: u32, height: u32) -> Self {
        Self { left: 0.0, top: 0.0, width: width.into(), height: height.into() }
    }

    /// Whether a point lies in it: its left and upper edge belong to it, the right and the lower one to what follows.
    pub fn contains(&self, point: Point) -> bool {
        let within = |at: f64, from: f64, length: f64| at >= from && at < from + length;
        within(point.column, self.left, self.width) && within(point.row, self.top, self.height)
    }

    fn and(self, other: Self) -> Option<Self> {
        let overlap = |(a, a_length): (f64, f64), (b, b_length): (f64, f64)| {
            let (from, to) = (a.max(b), (a + a_length).min(b + b_length));
            (to > from).then_some((from, to - from))
        };
        let (left, width) = overlap((self.left, self.width), (other.left, other.width))?;
        let (top, height) = overlap((self.top, self.height), (other.top, other.height))?;
        Some(Self { left, top, width, height })
    }
}

/// The part of a model input that shows one source frame.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Tile {
    /// Which frame.
    #[serde(flatten)]
    pub source: Source,
    /// Columns and rows of that frame.
    pub size: (u32, u32),
    /// From a point of the frame to a point of the model input.
    pub mapping: Mapping,
    /// Where in the model input it is shown; what lies outside belongs to another tile or is padding.
    pub area: Area,
}

/// A point of a source frame.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SourcePoint {
    /// The frame.
    #[serde(flatten)]
    pub source: Source,
    /// The point in it.
    #[serde(flatten)]
    pub point: Point,
}

/// What one image of a model's input shows, and the way back from each of its points.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Layout {
    /// Columns of the model input.
    pub width: u32,
    /// Rows of the model input.
    pub height: u32,
    /// The source frames in it: one, or those of a montage.
    pub tiles: Vec<Tile>,
}

/// How far beyond a frame's edge a point may come to lie by rounding, in pixels.
const ROUNDING: f64 = 1e-6;

impl Layout {
    /// A whole frame as it is.
    pub fn of_frame(source: Source, width: u32, height: u32) -> Self {
        let tile =
            Tile { source, size: (width, height), mapping: Mapping::IDENTITY, area: Area::of_size(width, height) };
        Self { width, height, tiles: vec![tile] }
    }

    /// What the model sees after another step, such as an image processor's: `step` leads from this input to the next
    /// one of `width` by `height`; tiles that it leaves outside are gone. A processor that cuts the input into tiles of
    /// its own makes one layout from each.
    #[must_use]
    pub fn then(&self, step: Mapping, width: u32, height: u32) -> Self {
        let whole = Area::of_size(width, height);
        let moved = |tile: &Tile| {
            let corner = |right: f64, bottom: f64| {
                let (column, row) =
                    (tile.area.left + right * tile.area.width, tile.area.top + bottom * tile.area.height);
                step.to_model(Point { column, row })
            };
            let (first, last) = (corner(0.0, 0.0), corner(1.0, 1.0));
            let area = Area {
                left: first.column.min(last.column),
                top: first.row.min(last.row),
                width: (last.column - first.column).abs(),
                height: (last.row - first.row).abs(),
            };
            let area = area.and(whole)?;
            Some(Tile { mapping: tile.mapping.then(step), area, ..tile.clone() })
        };
        Self { width, height, tiles: self.tiles.iter().filter_map(moved).collect() }
    }

    /// Which point of which frame is shown at a point of the model input; nothing where the model saw padding.
    pub fn to_source(&self, point: Point) -> Option<SourcePoint> {
        self.tiles.iter().filter(|tile| tile.area.contains(point)).find_map(|tile| {
            let Point { column, row } = tile.mapping.to_source(point);
            let within = |at: f64, length: u32| {
                let length = f64::from(length);
                (at >= -ROUNDING && at <= length + ROUNDING).then(|| at.clamp(0.0, length))
            };
            let point = Point { column: within(column, tile.size.0)?, row: within(row, tile.size.1)? };
            Some(SourcePoint { source: tile.source.clone(), point })
        })
    }

    /// Where a point of a frame is shown; nothing when it is not: another frame, a point outside it, or cropped away.
    pub fn to_model(&self, source: &Source, point: Point) -> Option<Point> {
        let of_frame = self.tiles.iter().filter(|tile| tile.source == *source);
        of_frame
            .filter(|tile| {
                let within = |at: f64, length: u32| at >= 0.0 && at <= f64::from(length);
                within(point.column, tile.size.0) && within(point.row, tile.size.1)
            })
            .find_map(|tile| {
                let shown = tile.mapping.to_model(point);
                // A frame's far edge is shown where its tile ends.
                let near = |at: f64, from: f64, length: f64| at >= from - ROUNDING && at <= from + length + ROUNDING;
                let area = tile.area;
                let inside = near(shown.column, area.left, area.width) && near(shown.row, area.top, area.height);
                inside.then_some(shown)
            })
    }
}
