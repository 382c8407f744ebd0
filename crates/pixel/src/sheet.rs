//! Every image of a study, small, for a person who wants to see what was chosen.

use std::collections::{BTreeMap, BTreeSet};

use dataset::Header;

use crate::{
    Limits, ModelImage, WindowFor,
    policy::evenly,
    study::{Open, StackSummary, Study, Unread},
};

/// A small picture of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Thumbnail {
    /// It, fitted into a square, and what it shows.
    pub picture: ModelImage,
    /// Index of its stack in [`ContactSheet::stacks`].
    pub stack: usize,
    /// Its place in the stack, from 0.
    pub frame: usize,
}

/// The images of a study in the order in which they are read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContactSheet {
    /// Frames of every stack.
    pub thumbnails: Vec<Thumbnail>,
    /// The stacks.
    pub stacks: Vec<StackSummary>,
    /// The stacks that each image has a frame in, by its index; none when it cannot be opened.
    pub stacks_of: BTreeMap<usize, BTreeSet<usize>>,
    /// Images that cannot be shown, each with its reason.
    pub unread: Vec<(usize, Unread)>,
    /// What was decided on the way.
    pub notes: Vec<String>,
}

/// Makes a sheet of the images, each fitted into a square of `side` pixels. Where there are more than `most` frames, each
/// stack has the same number of places, and evenly spaced frames in them; with none, nothing is decoded. `headers` and
/// `open` as for a [`Composer`](crate::Composer).
pub fn contact_sheet(headers: &[&Header], side: u32, most: usize, limits: Limits, open: Box<Open<'_>>) -> ContactSheet {
    let (mut study, mut unread) = Study::of(headers, true, limits, open);
    let mut sheet = ContactSheet::default();
    let frames: usize = study.stacks.iter().map(|stack| stack.frames.len()).sum();
    let places = if frames > most { (most / study.stacks.len().max(1)).max(1) } else { most };
    let mut shown = Vec::with_capacity(study.stacks.len());
    let mut seen = BTreeSet::new();
    for stack in 0..study.stacks.len() {
        let count = study.stacks[stack].frames.len();
        let taken = evenly(count, places.min(most.saturating_sub(sheet.thumbnails.len())));
        if taken.len() < count && most > 0 {
            sheet.notes.push(format!("stack {}: {} of {count} evenly spaced frames are shown", stack + 1, taken.len()));
        }
        let mut of_stack = 0;
        for frame in taken {
            match study.shown((stack, frame), &[WindowFor::File], false) {
                Ok((picture, _)) => {
                    seen.insert(study.stacks[stack].frames[frame].image);
                    sheet.thumbnails.push(Thumbnail { picture: picture.fitted(side), stack, frame });
                    of_stack += 1;
                }
                Err(broken) => {
                    unread.entry(broken.image).or_insert(broken.why);
                }
            }
        }
        shown.push(of_stack);
        for frame in &study.stacks[stack].frames {
            sheet.stacks_of.entry(frame.image).or_default().insert(stack);
        }
    }
    sheet.stacks = study.summaries(&shown);
    for (image, why) in unread {
        if seen.contains(&image) {
            sheet.notes.push(format!("some frames of an image that is shown cannot be had: {why}"));
        } else {
            sheet.unread.push((image, why));
        }
    }
    sheet
}
