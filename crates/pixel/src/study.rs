//! The images of a study: their stacks, their views, and what becomes of each frame, opened and decoded one at a time.

use std::{collections::BTreeMap, sync::Arc};

use dataset::{Header, Instance, Uid, tags};

use crate::{
    Apart, Budget, Decoded, Error, Frame, Gap, Kind, Limits, ModelImage, Offered, Order, PixelSpacing, RenderOptions,
    SliceSpacing, Source, Stack, StackFrame, StackValues, UltrasoundRegion, Upright, View, Window, WindowFor,
    check_size, frames_of, header_suffices, offered_windows, picture, policy::evenly, stacks, ultrasound_regions,
    upright, window_explained, window_of_width,
};

/// Opens an image of the study by its index. This crate has no file system.
pub type Open<'a> = dyn FnMut(usize) -> Result<Instance, dataset::Error> + 'a;

/// Why an image that was chosen for reading is not shown. Its text is for the person who wonders.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// The policy takes other frames of its stack.
    #[error("other slices stand for its stack, as the model's manifest asks")]
    OtherSlices,
    /// The policy's limit is reached before it.
    #[error("the model reads no more images of a study")]
    BeyondLimit,
    /// [`MOST_PIXELS`] is reached before it.
    #[error("the images before it have as many pixels as are shown of one study")]
    BeyondPixels,
    /// [`MOST_FRAMES`] is reached before it.
    #[error("the images before it have as many frames as are read of one study")]
    BeyondFrames,
    /// It was kept, and cannot be opened.
    #[error("{0}")]
    Unopened(String),
    /// Its pixels cannot be had.
    #[error(transparent)]
    Undecoded(#[from] Error),
}

/// A frame that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) image: usize,
    pub(crate) frame: u32,
    pub(crate) why: Unread,
}

/// Frames of a study that are put into stacks. The largest scans have some ten thousand.
pub const MOST_FRAMES: usize = 1 << 17;

/// Pixels of all images together that a study's request may have: 384 MiB as 8-bit RGB, ten mammograms or 500 slices.
pub const MOST_PIXELS: usize = 1 << 27;

/// Frames of a stack that its percentiles are made from, evenly spaced.
pub const FRAMES_OF_PERCENTILES: usize = 32;

/// A stack in short, for the record.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StackSummary {
    /// Series Number (0020,0011).
    pub series_number: Option<i64>,
    /// Series Instance UID (0020,000E).
    pub series_instance_uid: Uid,
    /// Its place among the stacks of its series, from 1.
    pub number: usize,
    /// Stacks of its series.
    pub of: usize,
    /// What it is.
    pub kind: Kind,
    /// By what its frames are in order.
    pub order: Order,
    /// What tells it from other stacks of its series.
    pub apart: BTreeMap<Apart, String>,
    /// The view of its first image, where it says so.
    pub view: Option<String>,
    /// Its frames.
    pub frames: usize,
    /// How many of them are shown.
    pub shown: usize,
    /// Where the first and the last frame lie along the normal, in mm.
    pub from_to_mm: Option<(f64, f64)>,
    /// The distances between slices.
    pub spacing: Option<SliceSpacing>,
    /// Where slices are missing.
    pub gaps: Vec<Gap>,
    /// The angle of a tilted gantry, in degrees.
    pub shear_degrees: f64,
}

/// A frame as it is shown, for the record.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ShownFrame {
    /// Which frame.
    #[serde(flatten)]
    pub source: Source,
    /// How values became grey levels, for each window that was asked for; none for colour.
    pub windows: Vec<Window>,
    /// Whether the grey levels were inverted for the display.
    pub inverted: bool,
    /// How it was turned, and what said so.
    pub upright: Upright,
    /// The distance between pixels of the frame as it is stored, and where it holds.
    pub pixel_spacing: Option<PixelSpacing>,
    /// The regions of an ultrasound image that have a scale.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ultrasound_regions: Vec<UltrasoundRegion>,
    /// What had to be decided against or beyond the header.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The images of a study in stacks. Holds one instance and one decoded frame at a time.
pub(crate) struct Study<'a> {
    pub(crate) headers: &'a [&'a Header],
    pub(crate) stacks: Vec<Stack>,
    /// The view of each stack.
    pub(crate) views: Vec<View>,
    limits: Limits,
    /// Time for the frames of the study.
    budget: Budget,
    open: Box<Open<'a>>,
    frames: Vec<Frame>,
    views_of_images: Vec<View>,
    opened: Option<(usize, Arc<Instance>)>,
    decoded: Option<((usize, u32), Decoded)>,
    values: Option<(usize, StackValues)>,
}

impl<'a> Study<'a> {
    /// Puts the images into stacks; answers those that are in none as well. `coded_views`: whether projections are opened
    /// for the codes of their views, which a header does not keep.
    pub(crate) fn of(
        headers: &'a [&'a Header],
        coded_views: bool,
        limits: Limits,
        open: Box<Open<'a>>,
    ) -> (Self, BTreeMap<usize, Unread>) {
        let mut study = Self {
            headers,
            stacks: Vec::new(),
            views: Vec::new(),
            budget: Budget::new(&limits),
            limits,
            open,
            frames: Vec::new(),
            views_of_images: Vec::new(),
            opened: None,
            decoded: None,
            values: None,
        };
        let mut unread = BTreeMap::new();
        for (index, header) in headers.iter().enumerate() {
            let view_is_coded = coded_views && VIEWS_HAVE_CODES.contains(&header.modality().as_str());
            let instance = if view_is_coded || !header_suffices(header) {
                study.instance(index).map(Some).unwrap_or_else(|why| {
                    unread.insert(index, why);
                    None
                })
            } else {
                None
            };
            study.views_of_images.push(View::of(header, instance.as_deref()));
            if unread.contains_key(&index) {
                continue;
            }
            let frames = frames_of(index, header, instance.as_deref(), &study.limits);
            if study.frames.len() + frames.len() > MOST_FRAMES {
                unread.insert(index, Unread::BeyondFrames);
            } else {
                study.frames.extend(frames);
            }
        }
        study.restack();
        (study, unread)
    }

    /// Takes out a frame that cannot be had, or all of its image when that is `whole` or cannot be opened, at the next
    /// [`Self::restack`].
    pub(crate) fn take_out(&mut self, broken: &Broken, whole: bool) {
        let whole = whole || matches!(broken.why, Unread::Unopened(_));
        let is_it = |frame: &Frame| frame.image == broken.image && (whole || frame.source.frame == broken.frame);
        self.frames.retain(|frame| !is_it(frame));
    }

    /// Makes the stacks of the frames that are left.
    pub(crate) fn restack(&mut self) {
        self.stacks = stacks(self.frames.clone());
        let first = |stack: &Stack| stack.frames.first().map(|frame| self.views_of_images[frame.image].clone());
        self.views = self.stacks.iter().map(|stack| first(stack).unwrap_or_default()).collect();
        self.values = None;
    }

    /// An image, opened; the last one stays open.
    pub(crate) fn instance(&mut self, image: usize) -> Result<Arc<Instance>, Unread> {
        if let Some((opened, instance)) = &self.opened
            && *opened == image
        {
            return Ok(Arc::clone(instance));
        }
        // Two at once may be more than there is room for.
        self.opened = None;
        check_size(self.headers[image], &self.limits)?;
        let opened = (self.open)(image).map_err(|error| Unread::Unopened(error.to_string()))?;
        let instance = Arc::new(opened);
        self.opened = Some((image, Arc::clone(&instance)));
        Ok(instance)
    }

    /// A frame of a stack, upright, in the proportions of the patient, through one window or three as channels. `again`:
    /// whether the same frame is likely to be wanted next, so that it is kept.
    pub(crate) fn shown(
        &mut self,
        (stack, frame): (usize, usize),
        windows: &[WindowFor],
        again: bool,
    ) -> Result<(ModelImage, ShownFrame), Broken> {
        let StackFrame { image, source, .. } = self.stacks[stack].frames[frame].clone();
        let frame = (image, source.frame);
        let options = windows.iter().map(|window| self.options(stack, frame, window)).collect::<Vec<_>>();
        self.rendered(image, &source, options, again).map_err(|why| Broken { image, frame: source.frame, why })
    }

    fn rendered(
        &mut self,
        image: usize,
        source: &Source,
        options: Vec<RenderOptions>,
        again: bool,
    ) -> Result<(ModelImage, ShownFrame), Unread> {
        let instance = self.instance(image)?;
        let frame = source.frame;
        let kept = self.decoded.take().filter(|(which, _)| *which == (image, frame));
        let mut decoded = match kept {
            Some((_, decoded)) => Some(decoded),
            None => Some(self.budget.decode(&instance, frame)?),
        };
        let upright = upright(&instance, frame);
        let mut shown = ShownFrame {
            source: source.clone(),
            windows: Vec::new(),
            inverted: false,
            upright,
            pixel_spacing: None,
            ultrasound_regions: ultrasound_regions(&instance),
            notes: Vec::new(),
        };
        let mut images = Vec::with_capacity(options.len());
        let last = options.len().saturating_sub(1);
        for (number, options) in options.iter().enumerate() {
            let needed_later = again || number < last;
            let Some(pixels) = (if needed_later { decoded.clone() } else { decoded.take() }) else { break };
            let rendered = picture(&instance, frame, pixels, options)?;
            shown.windows.extend(rendered.window);
            shown.inverted = rendered.inverted;
            shown.pixel_spacing = rendered.pixel_spacing;
            shown.notes = rendered.notes.clone();
            let aspect = if upright.turn.swaps_sides() { 1.0 / rendered.aspect } else { rendered.aspect };
            images.push(ModelImage::of(rendered, upright.turn).with_square_pixels(aspect));
        }
        self.decoded = decoded.map(|decoded| ((image, frame), decoded));
        let whole = match <[ModelImage; 3]>::try_from(images) {
            Ok(three) => ModelImage::channels(three),
            Err(others) => others.into_iter().next(),
        };
        let whole = whole.ok_or_else(|| Error::malformed("its windows give pictures of different sizes"))?;
        Ok((whole, shown))
    }

    fn options(&mut self, stack: usize, frame: (usize, u32), window: &WindowFor) -> RenderOptions {
        let window = match *window {
            WindowFor::File => None,
            WindowFor::Fixed(window) => Some(window),
            WindowFor::Explained(ref words) => window_explained(&self.offered(frame), words),
            WindowFor::OfWidth(width) => window_of_width(&self.offered(frame), width),
            WindowFor::Percentiles { low, high } => self.percentiles(stack, low, high),
        };
        RenderOptions { window }
    }

    /// What a frame's file offers; nothing where that cannot be read, which is said when the frame is shown.
    fn offered(&mut self, (image, frame): (usize, u32)) -> Vec<Offered> {
        self.instance(image).ok().and_then(|instance| offered_windows(&instance, frame).ok()).unwrap_or_default()
    }

    /// The window between two percentiles of a stack, from some of its frames; nothing when none can be decoded or all
    /// are colour.
    fn percentiles(&mut self, stack: usize, low: f64, high: f64) -> Option<Window> {
        if self.values.as_ref().is_none_or(|(of, _)| *of != stack) {
            let frames = &self.stacks[stack].frames;
            let taken = evenly(frames.len(), FRAMES_OF_PERCENTILES);
            let taken: Vec<(usize, u32)> =
                taken.iter().map(|at| (frames[*at].image, frames[*at].source.frame)).collect();
            let mut values = StackValues::of_frames(taken.len());
            for (image, frame) in taken {
                // A frame that cannot be read is missed when it is to be shown, not here.
                let Ok(instance) = self.instance(image) else { continue };
                let Ok(decoded) = self.budget.decode(&instance, frame) else { continue };
                if values.add(&instance, frame, &decoded).is_err() {
                    continue;
                }
            }
            self.values = Some((stack, values));
        }
        self.values.as_mut().and_then(|(_, values)| values.window(low, high))
    }

    /// The modality of a stack's images.
    pub(crate) fn modality(&self, stack: usize) -> String {
        self.stacks[stack].frames.first().map(|frame| self.headers[frame.image].modality()).unwrap_or_default()
    }

    /// Every stack in short; `shown` says how many frames of each are.
    pub(crate) fn summaries(&self, shown: &[usize]) -> Vec<StackSummary> {
        let mut counts: BTreeMap<&Uid, usize> = BTreeMap::new();
        let mut summaries: Vec<StackSummary> = Vec::with_capacity(self.stacks.len());
        for (index, stack) in self.stacks.iter().enumerate() {
            let number = counts.entry(&stack.series_instance_uid).or_default();
            *number += 1;
            let position = |frame: Option<&StackFrame>| frame.and_then(|frame| frame.position_mm);
            summaries.push(StackSummary {
                series_number: stack
                    .frames
                    .first()
                    .and_then(|frame| self.headers[frame.image].integer(tags::SERIES_NUMBER)),
                series_instance_uid: stack.series_instance_uid.clone(),
                number: *number,
                of: 0,
                kind: stack.kind,
                order: stack.order,
                apart: stack.apart.clone(),
                view: self.views[index].name(),
                frames: stack.frames.len(),
                shown: shown.get(index).copied().unwrap_or(0),
                from_to_mm: position(stack.frames.first()).zip(position(stack.frames.last())),
                spacing: stack.spacing,
                gaps: stack.gaps.clone(),
                shear_degrees: stack.shear_degrees,
            });
        }
        for summary in &mut summaries {
            summary.of = counts.get(&summary.series_instance_uid).copied().unwrap_or(1);
        }
        summaries
    }
}

/// Modalities whose images have a View Code Sequence (0054,0220).
const VIEWS_HAVE_CODES: [&str; 6] = ["CR", "DX", "MG", "RG", "PX", "IO"];
