//! LLaVA-NeXT and LLaVA-OneVision: the image fitted into the best of some resolutions and cut into tiles, after the
//! whole of it. OneVision pads each of several images to a square instead.

use serde_json::Value;

use super::{
    Steps,
    keys::{Keys, Size},
    plain::mean_colour,
    view::{Batch, View},
};
use crate::{
    error::{Error, Result},
    image::Image,
    prepared::{Arrangement, Prepared},
};

#[derive(Debug, Clone)]
pub(super) struct AnyResolution {
    /// Heights and widths to choose from.
    pinpoints: Vec<(u32, u32)>,
    /// Side of a tile, in pixels.
    tile: u32,
    /// Height and width of the whole.
    whole: (u32, u32),
    /// Several images are padded to squares in this colour, not cut into tiles.
    several: Option<[u8; 3]>,
}

impl AnyResolution {
    pub(super) fn new(keys: &Keys<'_>, steps: &Steps, one_vision: bool) -> Result<Self> {
        let expected = "a list of [height, width], each from 1 to 16384 pixels";
        let pair = |value: &Value| {
            let side = |index: usize| {
                let side = value.get(index)?.as_u64().filter(|side| (1..=16384).contains(side))?;
                u32::try_from(side).ok()
            };
            Some((side(0)?, side(1)?))
        };
        let list = keys.get("image_grid_pinpoints").and_then(Value::as_array);
        let pinpoints: Option<Vec<(u32, u32)>> = list.and_then(|list| list.iter().map(pair).collect());
        let pinpoints = pinpoints.filter(|list| !list.is_empty());
        let whole = match steps.size {
            Some(Size::Exact { height, width }) => (height, width),
            Some(Size::ShortestEdge { shortest, .. }) => (shortest, shortest),
            _ => return Err(keys.wrong("size", "{height, width} or {shortest_edge}")),
        };
        let tile = match keys.get("crop_size") {
            Some(_) => keys.exact("crop_size")?.0,
            None => whole.0,
        };
        let pinpoints = pinpoints.ok_or_else(|| keys.wrong("image_grid_pinpoints", expected))?;
        if pinpoints.iter().any(|(height, width)| height.div_ceil(tile) * width.div_ceil(tile) > 4096) {
            return Err(keys.wrong("image_grid_pinpoints", "resolutions of at most 4096 tiles"));
        }
        Ok(Self { pinpoints, tile, whole, several: if one_vision { Some(mean_colour(keys)?) } else { None } })
    }

    pub(super) fn prepare(&self, steps: &Steps, images: &[Image], channels: usize) -> Result<Prepared> {
        let levels = steps.levels(channels)?;
        let mut arrangements = Vec::with_capacity(images.len());
        let mut views: Vec<Vec<View>> = Vec::with_capacity(images.len());
        for image in images {
            let view = View::of(image)?;
            if let (Some(colour), 2..) = (self.several, images.len()) {
                views.push(vec![steps.view(&view.pad_to_square(colour))?]);
                arrangements.push(Arrangement::Padded);
                continue;
            }
            let (height, width) = best(&self.pinpoints, image.height, image.width);
            let whole = view.resize(self.whole.1.into(), self.whole.0.into(), steps.filter)?;
            let tiles = fitted(steps, &view, height, width)?.tiles(self.tile);
            let cut = std::iter::once(whole).chain(tiles).map(|view| steps.view(&view));
            views.push(cut.collect::<Result<_>>()?);
            arrangements.push(Arrangement::AnyResolution {
                rows: height.div_ceil(self.tile) as usize,
                columns: width.div_ceil(self.tile) as usize,
                height: image.height,
                width: image.width,
            });
        }
        // Fewer tiles than the image with the most: blank ones follow.
        let most = views.iter().map(Vec::len).max().unwrap_or(0);
        let mut batch = Batch::new(&levels);
        for (index, views) in views.iter().enumerate() {
            for view in views {
                batch.push(view, index)?;
            }
            batch.fill((index + 1) * most)?;
        }
        let mut prepared = batch.finish(&[images.len(), most], arrangements);
        prepared.image_sizes = Some(images.iter().map(|image| [image.height.into(), image.width.into()]).collect());
        Ok(prepared)
    }
}

/// The resolution that keeps most of the image, and of those the one that wastes least (`select_best_resolution`).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no larger than a resolution")]
fn best(pinpoints: &[(u32, u32)], height: u32, width: u32) -> (u32, u32) {
    let mut best = (pinpoints[0], 0, u64::MAX);
    for (to_height, to_width) in pinpoints {
        let scale = (f64::from(*to_width) / f64::from(width)).min(f64::from(*to_height) / f64::from(height));
        let scaled = |side: u32| (f64::from(side) * scale) as u64;
        let kept = (scaled(width) * scaled(height)).min(u64::from(width) * u64::from(height));
        let wasted = u64::from(*to_width) * u64::from(*to_height) - kept;
        if kept > best.1 || (kept == best.1 && wasted < best.2) {
            best = ((*to_height, *to_width), kept, wasted);
        }
    }
    best.0
}

/// Resized to fit, with black around it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no larger than the resolution")]
fn fitted(steps: &Steps, view: &View, height: u32, width: u32) -> Result<View> {
    let across = f64::from(width) / f64::from(view.width());
    let down = f64::from(height) / f64::from(view.height());
    let (new_width, new_height) = if across < down {
        (width, ((f64::from(view.height()) * across).ceil() as u32).min(height))
    } else {
        (((f64::from(view.width()) * down).ceil() as u32).min(width), height)
    };
    if new_width == 0 || new_height == 0 {
        return Err(Error::Request(format!("image: {} x {} pixels; crop it first", view.width(), view.height())));
    }
    let resized = view.resize(new_width.into(), new_height.into(), steps.filter)?;
    Ok(resized.pad((width - new_width) / 2, (height - new_height) / 2, width, height, [0; 3]))
}
