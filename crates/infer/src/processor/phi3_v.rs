//! Phi-3-vision and Phi-3.5-vision: the image scaled to as many tiles as it may have, white above and below; the whole
//! of it in one, then the tiles.

use super::{Steps, keys::Keys, levels::Levels, view::View};
use crate::{
    answer::Placement,
    error::{Error, Result},
    image::{Image, MAX_PIXELS},
    prepared::{Arrangement, Pixels, Prepared},
    resample::Filter,
};

/// Side of a tile, in pixels; the class knows no other.
const TILE: u32 = 336;

#[derive(Debug, Clone)]
pub(super) struct Phi3V {
    /// Most tiles an image is cut into.
    crops: u32,
}

impl Phi3V {
    pub(super) fn new(keys: &Keys<'_>) -> Result<Self> {
        Ok(Self { crops: keys.count("num_crops", 256)? })
    }

    pub(super) fn prepare(&self, steps: &Steps, images: &[Image], channels: usize) -> Result<Prepared> {
        // Torchvision's `ToTensor` divides in single precision.
        let levels = Levels::with(|level| f32::from(level) / 255.0, steps.normalize.as_ref(), channels)?;
        let views = 1 + self.crops as usize;
        let view_values = channels * (TILE * TILE) as usize;
        if (images.len() * views * view_values) as u64 > MAX_PIXELS * 3 {
            return Err(Error::Request(format!(
                "images: together more than {MAX_PIXELS} pixels after preprocessing; ask about fewer at a time"
            )));
        }
        let mut values = Vec::with_capacity(images.len() * views * view_values);
        let mut prepared = Prepared {
            pixel_values: Pixels { shape: Vec::new(), values: Vec::new() },
            pixel_attention_mask: None,
            image_grid_thw: None,
            image_sizes: None,
            images: Vec::new(),
            placements: Vec::new(),
        };
        let mut sizes = Vec::new();
        for (index, image) in images.iter().enumerate() {
            let view = self.high_definition(&View::of(image)?)?;
            let (width, height) = (view.width() as usize, view.height() as usize);
            let mut whole = Vec::with_capacity(channels * width * height);
            levels.write(&view.planes, &mut whole);
            for plane in whole.chunks_exact(width * height) {
                bicubic(plane, width, height, &mut values);
            }
            prepared.placements.extend(view.placement(index).map(in_one_tile));
            for tile in view.tiles(TILE) {
                levels.write(&tile.planes, &mut values);
                prepared.placements.extend(tile.placement(index));
            }
            values.resize((index + 1) * views * view_values, 0.0);
            let (rows, columns) = (height / TILE as usize, width / TILE as usize);
            prepared.images.push(Arrangement::HighDefinition { rows, columns });
            sizes.push([i64::from(view.height()), i64::from(view.width())]);
        }
        let side = TILE as usize;
        prepared.pixel_values = Pixels { shape: vec![images.len(), views, channels, side, side], values };
        prepared.image_sizes = Some(sizes);
        Ok(prepared)
    }

    /// As wide as the most tiles allow, padded with white to whole tiles; for an image that is longer than wide the
    /// same with sides exchanged.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred tiles")]
    fn high_definition(&self, view: &View) -> Result<View> {
        let upright = view.width() < view.height();
        let (long, short) = (view.width().max(view.height()), view.width().min(view.height()));
        let ratio = f64::from(long) / f64::from(short);
        let tiles = |scale: u32| f64::from(scale) * (f64::from(scale) / ratio).ceil();
        let scale = (1..=self.crops).take_while(|scale| tiles(*scale) <= f64::from(self.crops)).last().unwrap_or(0);
        let new_long = scale * TILE;
        let new_short = (f64::from(new_long) / ratio) as u32;
        let padded = new_short.next_multiple_of(TILE);
        let before = (padded - new_short) / 2;
        let white = [255; 3];
        // Turning the image, resizing it and turning it back is resizing it across first; rounding between the two
        // passes makes that another result.
        let lying = if upright { view.transposed() } else { view.clone() };
        let resized = lying.resize(new_long.into(), new_short.into(), Filter::Bilinear)?;
        let padded = resized.pad(0, before, new_long, padded, white);
        Ok(if upright { padded.transposed() } else { padded })
    }
}

/// Where an image lies in the view of the whole.
fn in_one_tile(place: Placement) -> Placement {
    let factor = [place.width, place.height].map(|side| f64::from(TILE) / f64::from(side));
    Placement {
        scale: [place.scale[0] * factor[0], place.scale[1] * factor[1]],
        offset: [place.offset[0] * factor[0], place.offset[1] * factor[1]],
        width: TILE,
        height: TILE,
        ..place
    }
}

/// Four neighbours of one of [`TILE`] positions along a side, and their weights.
type Neighbours = [(usize, f32); 4];

/// PyTorch's bicubic interpolation without antialiasing (`A` = -0.75, corners not aligned), along one side.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "positions")]
#[expect(clippy::cast_possible_wrap, reason = "positions in an image")]
fn neighbours(side: usize) -> Vec<Neighbours> {
    const A: f32 = -0.75;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let scale = side as f32 / TILE as f32;
    (0..TILE)
        .map(|position| {
            let at = scale * (position as f32 + 0.5) - 0.5;
            let first = at.floor();
            let rest = at - first;
            let weights = [far(rest + 1.0), near(rest), near(1.0 - rest), far(2.0 - rest)];
            let index = |offset: i64| (first as i64 + offset).clamp(0, side as i64 - 1) as usize;
            [(index(-1), weights[0]), (index(0), weights[1]), (index(1), weights[2]), (index(2), weights[3])]
        })
        .collect()
}

/// Appends a plane of `width` x `height` values in the size of a tile.
fn bicubic(plane: &[f32], width: usize, height: usize, values: &mut Vec<f32>) {
    let columns = neighbours(width);
    for rows in neighbours(height) {
        let rows = rows.map(|(y, weight)| (&plane[y * width..][..width], weight));
        values.extend(columns.iter().map(|columns| {
            let along = |row: &[f32]| columns.iter().map(|(x, weight)| row[*x] * weight).sum::<f32>();
            rows.iter().map(|(row, weight)| along(row) * weight).sum::<f32>()
        }));
    }
}
