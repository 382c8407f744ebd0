//! Qwen2-VL, 2.5-VL and 3-VL: the image in its own shape, cut into patches.

use serde_json::{Map, Value, json};

use super::{Steps, keys::Keys, view::View};
use crate::{
    error::{Error, Result},
    image::{Image, MAX_PIXELS},
    prepared::{Arrangement, Pixels, Prepared},
};

#[derive(Debug, Clone)]
pub(super) struct Qwen2Vl {
    min_pixels: u64,
    max_pixels: u64,
    /// Side of a patch, in pixels.
    patch: u32,
    /// Frames of a patch; an image is repeated.
    frames: usize,
    /// Patches of a side of what becomes one token.
    merge: u32,
}

/// Images longer than this many times their width are refused.
const MAX_RATIO: f64 = 200.0;

impl Qwen2Vl {
    pub(super) fn new(keys: &Keys<'_>) -> Result<Self> {
        let part = |name: &str| keys.get("size").and_then(|size| size.get(name)).and_then(Value::as_u64);
        let pixels =
            part("shortest_edge").zip(part("longest_edge")).filter(|(_, most)| (1..=MAX_PIXELS).contains(most));
        let Some((min_pixels, max_pixels)) = pixels else {
            let expected = format!("{{shortest_edge, longest_edge}}: numbers of pixels, at most {MAX_PIXELS}");
            return Err(keys.wrong("size", &expected));
        };
        Ok(Self {
            min_pixels,
            max_pixels,
            patch: keys.count("patch_size", 1024)?,
            frames: keys.count("temporal_patch_size", 16)? as usize,
            merge: keys.count("merge_size", 64)?,
        })
    }

    pub(super) fn prepare(&self, steps: &Steps, images: &[Image], channels: usize) -> Result<Prepared> {
        let levels = steps.levels(3)?;
        let patch_values = channels * self.frames * (self.patch * self.patch) as usize;
        let mut values = Vec::new();
        let mut prepared = Prepared {
            pixel_values: Pixels { shape: Vec::new(), values: Vec::new() },
            pixel_attention_mask: None,
            image_grid_thw: None,
            image_sizes: None,
            images: Vec::new(),
            placements: Vec::new(),
        };
        let mut grids = Vec::new();
        for (index, image) in images.iter().enumerate() {
            let mut view = View::of(image)?;
            if steps.resize {
                let (width, height) = self.smart_resize(&view)?;
                view = view.resize(width, height, steps.filter)?;
            }
            let unit = self.patch * self.merge;
            if !view.width().is_multiple_of(unit) || !view.height().is_multiple_of(unit) {
                return Err(Error::Request(format!(
                    "image {}: {} x {} pixels are not multiples of {unit}; set do_resize to true",
                    index + 1,
                    view.width(),
                    view.height()
                )));
            }
            let (rows, columns) = (view.height() / self.patch, view.width() / self.patch);
            let total = values.len() + rows as usize * columns as usize * patch_values;
            if total as u64 > MAX_PIXELS * 6 {
                return Err(Error::Request(format!(
                    "images: together more than {MAX_PIXELS} pixels after preprocessing; ask about fewer at a time"
                )));
            }
            values.reserve(total - values.len());
            let tables = [0, 1, 2].map(|channel| levels.table(channel));
            for (top, left) in self.order(rows, columns) {
                for (channel, table) in tables.iter().enumerate() {
                    let plane = view.planes.plane(channel);
                    let begin = values.len();
                    for y in top..top + self.patch {
                        let row = y as usize * view.width() as usize + left as usize;
                        let levels = &plane[row..row + self.patch as usize];
                        values.extend(levels.iter().map(|level| table[usize::from(*level)]));
                    }
                    let end = values.len();
                    for _ in 1..self.frames {
                        values.extend_from_within(begin..end);
                    }
                }
            }
            grids.push([1, rows.into(), columns.into()]);
            prepared.images.push(Arrangement::Grid {
                frames: 1,
                rows: rows as usize,
                columns: columns as usize,
                merge: self.merge as usize,
            });
            prepared.placements.extend(view.placement(index));
        }
        prepared.pixel_values = Pixels { shape: vec![values.len() / patch_values, patch_values], values };
        prepared.image_grid_thw = Some(grids);
        Ok(prepared)
    }

    /// Upper left corners of the patches, in rows of squares of what becomes one token.
    fn order(&self, rows: u32, columns: u32) -> impl Iterator<Item = (u32, u32)> {
        let (patch, merge) = (self.patch, self.merge);
        let squares = (0..rows / merge).flat_map(move |row| (0..columns / merge).map(move |column| (row, column)));
        squares.flat_map(move |(row, column)| {
            let inside = (0..merge).flat_map(move |y| (0..merge).map(move |x| (y, x)));
            inside.map(move |(y, x)| ((row * merge + y) * patch, (column * merge + x) * patch))
        })
    }

    /// Width and height near the image's own, multiples of what becomes one token, within the numbers of pixels.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "bounded")]
    fn smart_resize(&self, view: &View) -> Result<(u64, u64)> {
        let unit = u64::from(self.patch * self.merge);
        let factor = unit as f64;
        let (width, height) = (f64::from(view.width()), f64::from(view.height()));
        let ratio = width.max(height) / width.min(height);
        if ratio > MAX_RATIO {
            return Err(Error::Request(format!(
                "image: {} x {} pixels, {ratio:.0} times as long as wide; this model takes at most {MAX_RATIO:.0}, crop it",
                view.width(),
                view.height()
            )));
        }
        let nearest = |side: f64| (side / factor).round_ties_even() as u64 * unit;
        let (near_width, near_height) = (nearest(width), nearest(height));
        let pixels = near_width * near_height;
        if pixels > self.max_pixels {
            let shrink = ((height * width) / self.max_pixels as f64).sqrt();
            let down = |side: f64| ((side / shrink / factor).floor() as u64 * unit).max(unit);
            return Ok((down(width), down(height)));
        }
        if pixels < self.min_pixels {
            let grow = (self.min_pixels as f64 / (height * width)).sqrt();
            let up = |side: f64| (side * grow / factor).ceil() as u64 * unit;
            return Ok((up(width), up(height)));
        }
        Ok((near_width, near_height))
    }
}

/// `min_pixels` and `max_pixels` of older folders and of requests, put into `size`.
pub(super) fn fold_pixels(keys: &mut Map<String, Value>) {
    for (old, new) in [("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")] {
        let Some(pixels) = keys.remove(old).filter(|pixels| !pixels.is_null()) else { continue };
        let size = keys.entry("size").or_insert_with(|| json!({}));
        if let Value::Object(size) = size {
            size.remove(old);
            size.insert(new.to_owned(), pixels);
        }
    }
}
