//! Idefics3 and SmolVLM: the image scaled to a longest edge and to multiples of a tile, the tiles, and the whole in the
//! size of one.

use super::{
    Steps,
    keys::{Keys, Size},
    view::{Batch, View},
};
use crate::{
    error::{Error, Result},
    image::Image,
    prepared::{Arrangement, Mask, Prepared},
};

/// No side is longer than this after the first resize.
const MAX_IMAGE_SIZE: u32 = 4096;

#[derive(Debug, Clone)]
pub(super) struct Idefics3 {
    split: bool,
    /// Side of a tile, in pixels.
    tile: u32,
    pad: bool,
}

impl Idefics3 {
    pub(super) fn new(keys: &Keys<'_>) -> Result<Self> {
        let tile = match keys.size("max_image_size", true)? {
            // Tiles much smaller than any patch would be millions.
            Size::LongestEdge(tile) if tile >= 8 => tile,
            _ => return Err(keys.wrong("max_image_size", "{longest_edge} of 8 pixels or more")),
        };
        Ok(Self { split: keys.on("do_image_splitting", true)?, tile, pad: keys.on("do_pad", true)? })
    }

    pub(super) fn prepare(&self, steps: &Steps, images: &[Image], channels: usize) -> Result<Prepared> {
        let levels = steps.levels(channels)?;
        let mut batch = Batch::new(&levels);
        let mut arrangements = Vec::with_capacity(images.len());
        for (index, image) in images.iter().enumerate() {
            let mut view = View::of(image)?;
            if steps.resize {
                view = first_resize(steps, &view)?;
            }
            let (mut rows, mut columns) = (0, 0);
            if self.split {
                view = self.to_multiples(steps, &view)?;
                if view.height() > self.tile || view.width() > self.tile {
                    (rows, columns) = ((view.height() / self.tile) as usize, (view.width() / self.tile) as usize);
                    for tile in view.tiles(self.tile) {
                        batch.push(&tile, index)?;
                    }
                }
            }
            batch.push(&view.resize(self.tile.into(), self.tile.into(), steps.filter)?, index)?;
            arrangements.push(Arrangement::Tiles { rows, columns });
        }
        let count = batch.len();
        let [height, width] = batch.side();
        let mut prepared = batch.finish(&[1, count], arrangements);
        if self.pad {
            // All views have the size of a tile, so nothing of them is padding.
            let values = vec![true; count * height * width];
            prepared.pixel_attention_mask = Some(Mask { shape: vec![1, count, height, width], values });
        }
        Ok(prepared)
    }

    /// Both sides scaled up to multiples of the tile.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a few times 16384")]
    fn to_multiples(&self, steps: &Steps, view: &View) -> Result<View> {
        let up = |side: u32| side.div_ceil(self.tile) * self.tile;
        let aspect = f64::from(view.width()) / f64::from(view.height());
        let (width, height) = if view.width() >= view.height() {
            let width = up(view.width());
            (width, up((f64::from(width) / aspect) as u32))
        } else {
            let height = up(view.height());
            (up((f64::from(height) * aspect) as u32), height)
        };
        view.resize(width.into(), height.into(), steps.filter)
    }
}

/// To `size`: the longest edge to its length, the other to an even one; not above [`MAX_IMAGE_SIZE`].
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 16384")]
fn first_resize(steps: &Steps, view: &View) -> Result<View> {
    let longest = match steps.size {
        Some(Size::LongestEdge(longest)) => longest,
        Some(Size::Exact { height, width }) => return view.resize(width.into(), height.into(), steps.filter),
        _ => {
            return Err(Error::Request(
                "image processor key `size`: expected {longest_edge} or {height, width}".to_owned(),
            ));
        }
    };
    let aspect = f64::from(view.width()) / f64::from(view.height());
    let even = |side: f64| (side as u32).next_multiple_of(2).max(1);
    let (mut width, mut height) = if view.width() >= view.height() {
        (longest, even(f64::from(longest) / aspect))
    } else {
        (even(f64::from(longest) * aspect), longest)
    };
    let aspect = f64::from(width) / f64::from(height);
    if width >= height && width > MAX_IMAGE_SIZE {
        (width, height) = (MAX_IMAGE_SIZE, (f64::from(MAX_IMAGE_SIZE) / aspect) as u32);
    } else if height > width && height > MAX_IMAGE_SIZE {
        (width, height) = ((f64::from(MAX_IMAGE_SIZE) * aspect) as u32, MAX_IMAGE_SIZE);
    }
    view.resize(width.max(1).into(), height.max(1).into(), steps.filter)
}
