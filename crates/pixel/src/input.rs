//! What a model gets of a study: its policy applied to the study's stacks, and the images composed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dataset::{Header, Instance};

use crate::{
    ImagePolicy, Kind, Limits, ModelImage, Plan, Planned, WindowChoice, WindowFor, WindowsAs, reading_order,
    study::{Broken, MOST_PIXELS, Open, ShownFrame, StackSummary, Study, Unread},
};

/// One image for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct InputImage {
    /// Its pixels, and the way back from each of them.
    pub picture: ModelImage,
    /// Index of its stack in [`ModelInput::stacks`].
    pub stack: usize,
    /// Its view, where its first frame says so.
    pub view: Option<String>,
    /// The windows that the policy asks for; three are its channels, none is the file's own.
    pub windows: Vec<WindowChoice>,
    /// The frames in it, in order.
    pub frames: Vec<ShownFrame>,
}

/// What a model gets of a study.
#[derive(Debug, Default)]
pub struct ModelInput {
    /// The images, in order; none when not one frame can be had.
    pub images: Vec<InputImage>,
    /// Indices of the study's images of which at least a frame is shown.
    pub read: BTreeSet<usize>,
    /// The others, each with its reason.
    pub unread: Vec<(usize, Unread)>,
    /// Frames of the images read that are not shown.
    pub frames_not_shown: usize,
    /// Every stack of the study.
    pub stacks: Vec<StackSummary>,
    /// What was decided on the way, for the record.
    pub notes: Vec<String>,
    /// The image whose frame comes first, opened.
    pub first: Option<Arc<Instance>>,
}

/// Makes a model's input of a study.
///
/// Frames are decoded one at a time and only those that are shown, and for percentiles at most
/// [`FRAMES_OF_PERCENTILES`](crate::FRAMES_OF_PERCENTILES) of each stack. Held are the images made so far, within
/// [`MOST_PIXELS`](crate::MOST_PIXELS), with the slices of a montage made small at once.
pub struct Composer<'a> {
    study: Study<'a>,
    policy: &'a ImagePolicy,
    wanted: &'a [String],
    plan: Plan,
    /// Images that are in no stack.
    unread: BTreeMap<usize, Unread>,
    broken: Vec<Broken>,
    /// Images of which a frame could be had.
    good: BTreeSet<usize>,
}

/// Plans that are made for a study, each without the frames that the one before failed at.
const MOST_PLANS: usize = 256;

/// An image with so many broken frames and no good one is not tried further: it may claim to have 65 536.
const MOST_BROKEN_FRAMES: usize = 4;

/// The images of one plan.
#[derive(Default)]
struct Made {
    images: Vec<(Planned, InputImage)>,
    first: Option<Arc<Instance>>,
    pixels: usize,
    /// Whether a frame of the plan could not be had.
    failed: bool,
    /// Whether there were more images than [`MOST_PIXELS`] lets through.
    full: bool,
}

impl<'a> Composer<'a> {
    /// Looks at the study and plans, without decoding. `headers` are those of its images for reading (see
    /// [`choose`](crate::choose())), `wanted` the views that the manifest names, `open` opens an image by its index.
    pub fn new(
        headers: &'a [&'a Header],
        policy: &'a ImagePolicy,
        wanted: &'a [String],
        limits: Limits,
        open: Box<Open<'a>>,
    ) -> Self {
        // A single image comes first whatever its view is.
        let coded_views = !wanted.is_empty() && headers.len() > 1;
        let (study, unread) = Study::of(headers, coded_views, limits, open);
        let mut composer =
            Self { study, policy, wanted, plan: Plan::default(), unread, broken: Vec::new(), good: BTreeSet::new() };
        composer.replan();
        composer
    }

    fn replan(&mut self) {
        let order = reading_order(&self.study.stacks, &self.study.views, self.wanted, self.policy.limit);
        self.plan = self.policy.plan(&self.study.stacks, &order);
    }

    /// Indices of the images that the model sees when all of them can be decoded.
    pub fn planned(&self) -> BTreeSet<usize> {
        let images = |planned: &Planned| {
            let stack = &self.study.stacks[planned.stack];
            planned.frames.iter().map(|frame| stack.frames[*frame].image).collect::<Vec<_>>()
        };
        self.plan.images.iter().flat_map(images).collect()
    }

    /// Decodes and composes. A frame that cannot be had is left out, and others take its place as if it had never been
    /// there. Bounded: no more frames are tried than four times those of the first plan and all of the study once, in 256
    /// plans.
    pub fn compose(mut self) -> ModelInput {
        let of_plan = |plan: &Plan| plan.images.iter().map(|planned| planned.frames.len()).sum::<usize>();
        let of_study: usize = self.study.stacks.iter().map(|stack| stack.frames.len()).sum();
        let mut budget = 4 * of_plan(&self.plan) + of_study;
        for plans_left in (0..MOST_PLANS).rev() {
            budget = budget.saturating_sub(of_plan(&self.plan));
            let again = budget > 0 && plans_left > 0;
            let made = self.make(again);
            if !(made.failed && again) {
                return self.finish(made);
            }
            self.study.restack();
            self.replan();
        }
        self.finish(Made::default())
    }

    /// The images of the plan. `again`: whether all will be made again when one fails, so that none need be held then.
    fn make(&mut self, again: bool) -> Made {
        let mut made = Made::default();
        for planned in self.plan.images.clone() {
            if made.pixels >= MOST_PIXELS {
                made.full = true;
                break;
            }
            match self.image(&planned) {
                Ok(image) => {
                    made.pixels += image.picture.rgb.len() / 3;
                    let frames = &self.study.stacks[planned.stack].frames;
                    self.good.extend(planned.frames.iter().map(|frame| frames[*frame].image));
                    if made.first.is_none() {
                        made.first = self.first(&planned);
                    }
                    made.images.push((planned, image));
                }
                Err(broken) => {
                    self.take_out(broken);
                    made.failed = true;
                }
            }
            if made.failed && again {
                made = Made { failed: true, ..Made::default() };
            }
        }
        made
    }

    fn take_out(&mut self, broken: Broken) {
        let image = broken.image;
        let whole = !self.good.contains(&image)
            && self.broken.iter().filter(|other| other.image == image).count() + 1 >= MOST_BROKEN_FRAMES;
        self.study.take_out(&broken, whole);
        self.broken.push(broken);
    }

    fn first(&mut self, planned: &Planned) -> Option<Arc<Instance>> {
        let image = self.study.stacks[planned.stack].frames.get(*planned.frames.first()?)?.image;
        self.study.instance(image).ok()
    }

    fn image(&mut self, planned: &Planned) -> Result<InputImage, Broken> {
        let modality = self.study.modality(planned.stack);
        let choices: Vec<WindowChoice> =
            planned.windows.iter().map(|window| self.policy.windows[*window].clone()).collect();
        let mut windows: Vec<WindowFor> = choices.iter().map(|choice| choice.of_modality(&modality)).collect();
        if windows.is_empty() {
            windows.push(WindowFor::File);
        }
        let montage = self.policy.montage.filter(|_| self.study.stacks[planned.stack].kind != Kind::Picture);
        // The same frame comes again through the next window.
        let again = self.policy.windows_as == WindowsAs::Images && self.policy.windows.len() > 1 && montage.is_none();
        let (mut pictures, mut frames) = (Vec::new(), Vec::new());
        for frame in &planned.frames {
            let (picture, shown) = self.study.shown((planned.stack, *frame), &windows, again)?;
            frames.push(shown);
            pictures.push(match montage {
                Some(montage) => picture.fitted(montage.cell),
                None => picture,
            });
        }
        let picture = match montage {
            Some(montage) => ModelImage::montage(pictures, montage),
            None => pictures.swap_remove(0),
        };
        let view = self.study.views[planned.stack].name();
        Ok(InputImage { picture, stack: planned.stack, view, windows: choices, frames })
    }

    fn finish(self, made: Made) -> ModelInput {
        let Self { study, mut unread, broken, plan, .. } = self;
        let mut shown: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); study.stacks.len()];
        for (planned, _) in &made.images {
            shown[planned.stack].extend(&planned.frames);
        }
        let of = |(stack, frames): (usize, &BTreeSet<usize>)| {
            frames.iter().map(|frame| study.stacks[stack].frames[*frame].image).collect::<Vec<_>>()
        };
        let read: BTreeSet<usize> = shown.iter().enumerate().flat_map(of).collect();
        let mut notes = plan.notes;
        let mut frames_not_shown = 0;
        for Broken { image, frame, why } in broken {
            if read.contains(&image) {
                frames_not_shown += 1;
                notes.push(format!("frame {} of an image that is read cannot be had: {why}", frame + 1));
            }
            unread.entry(image).or_insert(why);
        }
        let planned: BTreeSet<usize> = plan.images.iter().map(|it| it.stack).collect();
        for (index, stack) in study.stacks.iter().enumerate() {
            let why = match (shown[index].is_empty(), made.full && planned.contains(&index)) {
                (false, _) => Unread::OtherSlices,
                (true, true) => Unread::BeyondPixels,
                (true, false) => Unread::BeyondLimit,
            };
            let not_shown = stack.frames.iter().enumerate().filter(|(at, _)| !shown[index].contains(at));
            for (_, frame) in not_shown {
                if read.contains(&frame.image) {
                    frames_not_shown += 1;
                } else {
                    unread.entry(frame.image).or_insert_with(|| why.clone());
                }
            }
        }
        unread.retain(|image, _| !read.contains(image));
        let counts: Vec<usize> = shown.iter().map(BTreeSet::len).collect();
        ModelInput {
            images: made.images.into_iter().map(|(_, image)| image).collect(),
            read,
            unread: unread.into_iter().collect(),
            frames_not_shown,
            stacks: study.summaries(&counts),
            notes,
            first: made.first,
        }
    }
}
