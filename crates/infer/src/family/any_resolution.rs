//! LLaVA-OneVision and LLaVA-NeXT: the features of an image's tiles are laid out as one picture, without the padding, each
//! row of it ended by a newline embedding, behind the features of the whole image.

use super::{Family, Place, image_token};
use crate::{
    description::Description,
    error::{Error, Result},
    prepared::Arrangement,
    text::Text,
    vision::{Features, Vision},
};

pub(super) struct AnyResolution {
    token: (String, u32),
    /// More tiles than so many are scaled down to as many features (`anyres_max_9`).
    most: Option<usize>,
}

impl AnyResolution {
    pub(super) fn new(description: &Description, text: &Text) -> Result<Self> {
        let token = image_token(description, text, &["<image>"])?;
        let stated =
            description.option("vision_aspect_ratio").or_else(|| description.config.get("vision_aspect_ratio"));
        let most = match stated.and_then(|stated| stated.as_str()) {
            Some(stated) => stated.strip_prefix("anyres_max_").and_then(|most| most.parse().ok()),
            None if description.family == "llava_onevision" => Some(9),
            None => None,
        };
        Ok(Self { token, most })
    }
}

/// A picture of features, row by row.
struct Picture {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
    width: usize,
}

impl Picture {
    /// Tiles, each `side` x `side` features, `rows` x `columns` of them.
    fn of_tiles(values: &[f32], side: usize, rows: usize, columns: usize, width: usize) -> Self {
        let mut picture = Vec::with_capacity(values.len());
        for row in 0..rows * side {
            for column in 0..columns {
                let tile = (row / side) * columns + column;
                let from = (tile * side * side + (row % side) * side) * width;
                picture.extend_from_slice(&values[from..from + side * width]);
            }
        }
        Self { values: picture, rows: rows * side, columns: columns * side, width }
    }

    fn at(&self, row: usize, column: usize) -> &[f32] {
        let from = (row * self.columns + column) * self.width;
        &self.values[from..from + self.width]
    }

    /// Takes off what the image of `height` x `width` pixels does not fill (`unpad_image`).
    fn unpadded(self, height: u32, width: u32) -> Self {
        let (rows, columns) = (count(self.rows), count(self.columns));
        let (height, width) = (f64::from(height), f64::from(width));
        let (top, left) = if width / height > columns / rows {
            (self.rows.saturating_sub(whole(round7(height * (columns / width)))) / 2, 0)
        } else {
            (0, self.columns.saturating_sub(whole(round7(width * (rows / height)))) / 2)
        };
        let (kept_rows, kept_columns) = (self.rows - 2 * top, self.columns - 2 * left);
        let mut values = Vec::with_capacity(kept_rows * kept_columns * self.width);
        for row in top..top + kept_rows {
            let from = (row * self.columns + left) * self.width;
            values.extend_from_slice(&self.values[from..from + kept_columns * self.width]);
        }
        Self { values, rows: kept_rows, columns: kept_columns, width: self.width }
    }

    /// PyTorch's `interpolate(mode="bilinear")`.
    #[expect(clippy::cast_possible_truncation, reason = "the reference computes in single precision")]
    fn scaled(self, rows: usize, columns: usize) -> Self {
        let axis = |from: usize, to: usize| -> Vec<(usize, usize, f32)> {
            let scale = (count(from) / count(to)) as f32;
            let place = |index: usize| {
                let at = (scale * (count(index) as f32 + 0.5) - 0.5).max(0.0);
                let first = whole(f64::from(at)).min(from - 1);
                (first, (first + 1).min(from - 1), at - count(first) as f32)
            };
            (0..to).map(place).collect()
        };
        let (down, across) = (axis(self.rows, rows), axis(self.columns, columns));
        let mut values = Vec::with_capacity(rows * columns * self.width);
        for (top, bottom, below) in down {
            for (left, right, beside) in &across {
                let corners =
                    [self.at(top, *left), self.at(top, *right), self.at(bottom, *left), self.at(bottom, *right)];
                values.extend((0..self.width).map(|index| {
                    let [a, b, c, d] = corners.map(|corner| corner[index]);
                    (1.0 - below) * ((1.0 - beside) * a + beside * b) + below * ((1.0 - beside) * c + beside * d)
                }));
            }
        }
        Self { values, rows, columns, width: self.width }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of features")]
fn count(number: usize) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number that is not negative")]
fn whole(number: f64) -> usize {
    number.max(0.0) as usize
}

/// Python's `round(x, 7)`, as far as the whole part can tell.
fn round7(number: f64) -> f64 {
    (number * 1e7).round_ties_even() / 1e7
}

impl Family for AnyResolution {
    fn placeholder(&self) -> Option<&str> {
        Some(&self.token.0)
    }

    fn image_token(&self) -> Option<(&str, u32)> {
        Some((&self.token.0, self.token.1))
    }

    fn expansion(&self, place: &Place) -> Result<String> {
        Ok(self.token.0.repeat(place.features))
    }

    fn arrange(&self, features: Features, arrangements: &[Arrangement], vision: &Vision) -> Result<Features> {
        if vision.knows_sizes() {
            return Ok(features);
        }
        let newline =
            features.others.iter().find(|other| other.name == "image_newline").map(|other| other.values.clone());
        let newline = newline.filter(|newline| newline.len() >= features.width).map(|mut newline| {
            newline.truncate(features.width);
            newline
        });
        let mut arranged =
            Features { values: Vec::new(), of_image: Vec::new(), others: features.others.clone(), ..features };
        let mut from = 0;
        for (arrangement, of_it) in arrangements.iter().zip(&features.of_image) {
            let values = &features.values[from * features.width..(from + of_it) * features.width];
            from += of_it;
            let before = arranged.values.len();
            match (*arrangement, &newline) {
                (Arrangement::AnyResolution { rows, columns, height, width }, Some(newline)) if rows * columns > 0 => {
                    let base = of_it / (rows * columns + 1);
                    let side = base.isqrt();
                    if side * side != base {
                        return Err(Error::unsupported(
                            format!("{base} features for each tile of an image, which are no square"),
                            "a vision graph that returns a square of features for each tile",
                            "export the model again",
                        ));
                    }
                    let (whole_image, tiles) = values.split_at(base * features.width);
                    arranged.values.extend_from_slice(whole_image);
                    let tiles = Picture::of_tiles(tiles, side, rows, columns, features.width).unpadded(height, width);
                    let tiles = self.limited(tiles, side);
                    for row in 0..tiles.rows {
                        let from = row * tiles.columns * tiles.width;
                        arranged.values.extend_from_slice(&tiles.values[from..from + tiles.columns * tiles.width]);
                        arranged.values.extend_from_slice(newline);
                    }
                }
                (_, Some(newline)) => {
                    arranged.values.extend_from_slice(values);
                    arranged.values.extend_from_slice(newline);
                }
                // Exports without the newline embedding are made to be run on the whole image alone.
                (Arrangement::AnyResolution { rows, columns, .. }, None) => {
                    arranged.values.extend_from_slice(&values[..of_it / (rows * columns + 1) * features.width]);
                }
                (_, None) => arranged.values.extend_from_slice(values),
            }
            arranged.of_image.push((arranged.values.len() - before) / features.width);
        }
        arranged.shape = vec![arranged.count(), arranged.width];
        Ok(arranged)
    }
}

impl AnyResolution {
    fn limited(&self, picture: Picture, side: usize) -> Picture {
        let Some(most) = self.most else { return picture };
        let ratio = (count(picture.rows * picture.columns) / count(most * side * side)).sqrt();
        if ratio <= 1.1 {
            return picture;
        }
        let (rows, columns) = (whole(count(picture.rows) / ratio), whole(count(picture.columns) / ratio));
        picture.scaled(rows.max(1), columns.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(rows: usize, columns: usize, values: &[f32]) -> Picture {
        Picture { values: values.to_vec(), rows, columns, width: 1 }
    }

    #[test]
    fn tiles_are_laid_out_row_by_row() {
        let tiles: Vec<f32> = (0..8_u8).map(f32::from).collect();
        let laid = Picture::of_tiles(&tiles, 2, 1, 2, 1);
        assert_eq!((laid.rows, laid.columns, laid.values), (2, 4, vec![0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]));
    }

    #[test]
    fn padding_is_taken_off_on_both_sides() {
        let check = |height: u32, width: u32, expected: (usize, usize, &[f32])| {
            let found = picture(4, 4, &(0..16_u8).map(f32::from).collect::<Vec<_>>()).unpadded(height, width);
            assert_eq!((found.rows, found.columns, &found.values[..]), expected);
        };
        check(10, 20, (2, 4, &[4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]));
        check(20, 10, (4, 2, &[1.0, 2.0, 5.0, 6.0, 9.0, 10.0, 13.0, 14.0]));
        // Three of four rows: what is odd stays.
        check(15, 20, (4, 4, &(0..16_u8).map(f32::from).collect::<Vec<_>>()));
    }

    #[test]
    fn scaling_is_bilinear_between_centres() {
        let found = picture(2, 2, &[0.0, 1.0, 2.0, 3.0]).scaled(1, 1);
        assert_eq!(found.values, [1.5]);
        let found = picture(1, 2, &[0.0, 4.0]).scaled(1, 4);
        assert_eq!(found.values, [0.0, 1.0, 3.0, 4.0]);
    }
}
