//! Processors that make one view of each image (ViT, CLIP, SigLIP, ConvNeXt, Donut, LLaVA …) and Gemma 3, which may
//! add crops of it.

use super::{
    Steps,
    keys::{Keys, Size},
    view::{Batch, View},
};
use crate::{
    error::{Error, Result},
    image::Image,
    prepared::{Arrangement, Prepared},
};

/// What one class does besides the common steps.
#[derive(Debug, Clone)]
pub(super) enum Plain {
    /// Zeros after the image, up to a height and width or to the largest image, after normalising.
    Standard {
        pad: Option<Option<(u32, u32)>>,
    },
    /// The shorter edge is scaled by 256/224.
    Levit,
    /// Below 384 pixels a part of this share is cropped out; from there on the aspect ratio is given up.
    ConvNext {
        crop_pct: f64,
    },
    Donut {
        size: (u32, u32),
        align_long_axis: bool,
        thumbnail: bool,
        pad: bool,
    },
    /// Padded to a square in the mean colour first.
    Llava {
        pad: Option<[u8; 3]>,
    },
    Gemma3 {
        pan_and_scan: Option<PanAndScan>,
    },
}

/// Gemma 3: crops of images that are much longer than wide, or wider than long.
#[derive(Debug, Clone, Copy)]
pub(super) struct PanAndScan {
    min_crop_size: u32,
    max_num_crops: u32,
    min_ratio_to_activate: f64,
}

impl Plain {
    pub(super) fn standard(keys: &Keys<'_>) -> Result<Self> {
        let pad = keys.on("do_pad", false)?;
        let size = keys.get("pad_size").map(|_| keys.exact("pad_size")).transpose()?;
        Ok(Self::Standard { pad: pad.then_some(size) })
    }

    pub(super) fn conv_next(keys: &Keys<'_>) -> Result<Self> {
        let crop_pct = keys.number("crop_pct", 224.0 / 256.0)?;
        if crop_pct <= 0.0 {
            return Err(keys.wrong("crop_pct", "a number above 0"));
        }
        Ok(Self::ConvNext { crop_pct })
    }

    pub(super) fn donut(keys: &Keys<'_>) -> Result<Self> {
        Ok(Self::Donut {
            size: keys.exact("size")?,
            align_long_axis: keys.on("do_align_long_axis", false)?,
            thumbnail: keys.on("do_thumbnail", true)?,
            pad: keys.on("do_pad", true)?,
        })
    }

    pub(super) fn llava(keys: &Keys<'_>) -> Result<Self> {
        let pad = keys.on("do_pad", false)?;
        Ok(Self::Llava { pad: if pad { Some(mean_colour(keys)?) } else { None } })
    }

    pub(super) fn gemma3(keys: &Keys<'_>) -> Result<Self> {
        let on = keys.on("do_pan_and_scan", false)?;
        let pan_and_scan = || {
            Ok(PanAndScan {
                min_crop_size: keys.count("pan_and_scan_min_crop_size", 16384)?,
                max_num_crops: keys.count("pan_and_scan_max_num_crops", 64)?,
                min_ratio_to_activate: keys.number("pan_and_scan_min_ratio_to_activate", 1.2)?,
            })
        };
        Ok(Self::Gemma3 { pan_and_scan: on.then(pan_and_scan).transpose()? })
    }

    pub(super) fn prepare(&self, steps: &Steps, images: &[Image], channels: usize) -> Result<Prepared> {
        let levels = steps.levels(channels)?;
        let mut batch = Batch::new(&levels);
        let mut arrangements = Vec::with_capacity(images.len());
        let mut unpadded = Vec::new();
        for (index, image) in images.iter().enumerate() {
            let view = View::of(image)?;
            match self {
                Self::Standard { pad: Some(_) } => unpadded.push(self.view(steps, &view)?),
                Self::Gemma3 { pan_and_scan: Some(pan_and_scan) } => {
                    let crops = pan_and_scan.crops(&view);
                    batch.push(&self.view(steps, &view)?, index)?;
                    for crop in &crops {
                        batch.push(&self.view(steps, crop)?, index)?;
                    }
                    arrangements.push(Arrangement::Crops { count: crops.len() });
                    continue;
                }
                _ => batch.push(&self.view(steps, &view)?, index)?,
            }
            arrangements.push(Arrangement::Whole);
        }
        if let Self::Standard { pad: Some(size) } = self {
            let most = |side: fn(&View) -> u32| unpadded.iter().map(side).max().unwrap_or(0);
            let (height, width) = size.unwrap_or_else(|| (most(View::height), most(View::width)));
            for (index, view) in unpadded.iter().enumerate() {
                batch.push_padded(view, index, width, height)?;
            }
        }
        let count = batch.len();
        Ok(batch.finish(&[count], arrangements))
    }

    /// Resized and cropped as the class does.
    fn view(&self, steps: &Steps, view: &View) -> Result<View> {
        let resized = match self {
            Self::Donut { size, align_long_axis, thumbnail, pad } => {
                donut(steps, view, *size, [*align_long_axis, *thumbnail, *pad])?
            }
            Self::Llava { pad: Some(colour) } => steps.resize(&view.pad_to_square(*colour))?,
            Self::Levit => match steps.size {
                Some(Size::ShortestEdge { shortest, .. }) if steps.resize => {
                    shortest_edge(steps, view, 256.0 / 224.0 * f64::from(shortest))?
                }
                _ => steps.resize(view)?,
            },
            Self::ConvNext { crop_pct } if steps.resize => match steps.size {
                Some(Size::ShortestEdge { shortest, .. }) if shortest < 384 => {
                    let resized = shortest_edge(steps, view, f64::from(shortest) / crop_pct)?;
                    resized.center_crop(shortest, shortest)
                }
                Some(Size::ShortestEdge { shortest, .. }) => {
                    view.resize(shortest.into(), shortest.into(), steps.filter)?
                }
                _ => {
                    return Err(Error::Request(
                        "image processor key `size` of ConvNeXt: expected {shortest_edge} or a number".to_owned(),
                    ));
                }
            },
            _ => steps.resize(view)?,
        };
        Ok(steps.crop(resized))
    }
}

/// The mean colour of the training images, cut to whole levels.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the reference cuts; casts saturate")]
pub(super) fn mean_colour(keys: &Keys<'_>) -> Result<[u8; 3]> {
    let mean = keys.channel_values("image_mean")?;
    let level = |channel: usize| (mean[channel.min(mean.len() - 1)] * 255.0) as u8;
    Ok([level(0), level(1), level(2)])
}

/// Resized so that the shorter edge has this length, cut to whole pixels.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; casts saturate")]
fn shortest_edge(steps: &Steps, view: &View, edge: f64) -> Result<View> {
    let size = Size::ShortestEdge { shortest: (edge as u32).max(1), longest: None };
    let (width, height) = super::target(size, view)?;
    view.resize(width, height, steps.filter)
}

/// Donut: turned to lie as the target does, shrunk into it, and put in its middle.
fn donut(steps: &Steps, view: &View, (height, width): (u32, u32), on: [bool; 3]) -> Result<View> {
    let [align_long_axis, thumbnail, pad] = on;
    let across =
        |width: u32, height: u32, other_width: u32, other_height: u32| width < height && other_width > other_height;
    let mut view = view.clone();
    if align_long_axis
        && (across(width, height, view.width(), view.height()) || across(view.width(), view.height(), width, height))
    {
        view = view.turned();
    }
    if steps.resize {
        view = shortest_edge(steps, &view, height.min(width).into())?;
    }
    if thumbnail {
        view = shrunk(steps, view, height, width)?;
    }
    if pad {
        if view.width() > width || view.height() > height {
            return Err(Error::Request(format!(
                "image: {} x {} pixels do not fit into `size` of {width} x {height}; set do_thumbnail to true",
                view.width(),
                view.height()
            )));
        }
        view = view.pad((width - view.width()) / 2, (height - view.height()) / 2, width, height, [0; 3]);
    }
    Ok(view)
}

/// Donut's `thumbnail`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and below the image's own size")]
fn shrunk(steps: &Steps, view: View, height: u32, width: u32) -> Result<View> {
    let (from_height, from_width) = (view.height(), view.width());
    let (mut height, mut width) = (height.min(from_height), width.min(from_width));
    if (height, width) == (from_height, from_width) {
        return Ok(view);
    }
    let scaled = |side: u32, to: u32, from: u32| (f64::from(side) * f64::from(to) / f64::from(from)) as u32;
    if from_height > from_width {
        width = scaled(from_width, height, from_height);
    } else if from_width > from_height {
        height = scaled(from_height, width, from_width);
    }
    view.resize(width.into(), height.into(), steps.filter)
}

impl PanAndScan {
    /// The crops of an image; none where it is not long or not large enough.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ratios of sides, rounded")]
    fn crops(&self, view: &View) -> Vec<View> {
        let (width, height) = (view.width(), view.height());
        let (long, short) = (width.max(height), width.min(height));
        let ratio = f64::from(long) / f64::from(short);
        if ratio < self.min_ratio_to_activate {
            return Vec::new();
        }
        let count = ((ratio + 0.5).floor() as u32).min(long / self.min_crop_size).max(2).min(self.max_num_crops);
        let side = long.div_ceil(count);
        if side.min(short) < self.min_crop_size {
            return Vec::new();
        }
        let begins = (0..count).map(|index| index * side).filter(|begin| *begin < long);
        let crop = |begin: u32| {
            let length = side.min(long - begin);
            if width >= height { view.crop(begin, 0, length, height) } else { view.crop(0, begin, width, length) }
        };
        begins.map(crop).collect()
    }
}
