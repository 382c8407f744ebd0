/// How a picture is turned or mirrored before it is shown: one of the eight ways in which a rectangle covers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// As it is.
    #[default]
    None,
    /// A quarter clockwise.
    Right,
    /// Upside down.
    Half,
    /// A quarter anticlockwise.
    Left,
    /// Mirrored: left becomes right.
    FlipColumns,
    /// Mirrored: top becomes bottom.
    FlipRows,
    /// Mirrored along the diagonal from the upper left: rows become columns.
    Transpose,
    /// Mirrored along the diagonal from the upper right.
    AntiTranspose,
}

impl Turn {
    /// Every one of them.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::Right,
        Self::Half,
        Self::Left,
        Self::FlipColumns,
        Self::FlipRows,
        Self::Transpose,
        Self::AntiTranspose,
    ];

    /// Whether width and height change places.
    pub fn swaps_sides(self) -> bool {
        matches!(self, Self::Right | Self::Left | Self::Transpose | Self::AntiTranspose)
    }

    /// Whether the outcome is the mirror image of what was there.
    pub fn mirrors(self) -> bool {
        matches!(self, Self::FlipColumns | Self::FlipRows | Self::Transpose | Self::AntiTranspose)
    }

    /// Width and height afterwards.
    pub fn size(self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.swaps_sides() { (height, width) } else { (width, height) }
    }

    /// Where one column and one row of the input lead in the output, each as (columns, rows).
    pub(crate) fn directions(self) -> [[i8; 2]; 2] {
        match self {
            Self::None => [[1, 0], [0, 1]],
            Self::Right => [[0, 1], [-1, 0]],
            Self::Half => [[-1, 0], [0, -1]],
            Self::Left => [[0, -1], [1, 0]],
            Self::FlipColumns => [[-1, 0], [0, 1]],
            Self::FlipRows => [[1, 0], [0, -1]],
            Self::Transpose => [[0, 1], [1, 0]],
            Self::AntiTranspose => [[0, -1], [-1, 0]],
        }
    }

    /// As matrix and offset for an input of `width` by `height`.
    pub(crate) fn affine(self, width: f64, height: f64) -> ([[f64; 2]; 2], [f64; 2]) {
        let matrix = self.directions().map(|step| step.map(f64::from));
        // The corner that goes to negative coordinates is moved back to 0.
        let lowest = |axis: usize| (matrix[0][axis] * width).min(0.0) + (matrix[1][axis] * height).min(0.0);
        (matrix, [-lowest(0), -lowest(1)])
    }

    /// Turns pixels of `N` samples each, row by row. `pixels` must have `width * height` of them.
    pub(crate) fn apply<const N: usize>(self, pixels: Vec<u8>, width: u32, height: u32) -> Vec<u8> {
        if self == Self::None {
            return pixels;
        }
        let (width, height) = (width as usize, height as usize);
        let input = pixels.as_chunks::<N>().0;
        let [along, down] = self.directions();
        let (columns, rows) = if self.swaps_sides() { (height, width) } else { (width, height) };
        // The input's pixel for an output pixel: directions are a signed permutation, so their inverse is the transpose.
        let place = |step: [i8; 2], column: usize, row: usize, length: usize| match step {
            [1, _] => column,
            [-1, _] => length - 1 - column,
            [_, 1] => row,
            _ => length - 1 - row,
        };
        let mut output = Vec::with_capacity(pixels.len());
        for row in 0..rows {
            for column in 0..columns {
                let (x, y) = (place(along, column, row, width), place(down, column, row, height));
                output.extend_from_slice(&input[y * width + x]);
            }
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mapping, Point};

    #[test]
    fn pixels_go_where_the_mapping_says() {
        let (width, height) = (3u32, 2u32);
        let pixels: Vec<u8> = (0..6).collect();
        for turn in Turn::ALL {
            let turned = turn.apply::<1>(pixels.clone(), width, height);
            let columns = turn.size((width, height)).0;
            let mapping = Mapping::IDENTITY.turned(turn, (width, height));
            for (at, value) in (0u32..).zip(&pixels) {
                let centre = Point { column: f64::from(at % width) + 0.5, row: f64::from(at / width) + 0.5 };
                let Point { column, row } = mapping.to_model(centre);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a pixel of six
                let place = row as usize * columns as usize + column as usize;
                assert_eq!(turned[place], *value, "{turn:?} at {at}");
            }
        }
    }

    #[test]
    fn a_mirror_image_is_one() {
        for turn in Turn::ALL {
            let [[a, c], [b, d]] = turn.directions();
            assert_eq!(a * d - b * c < 0, turn.mirrors(), "{turn:?}");
        }
    }
}
