//! Which frames of a study a model sees, and through which windows: what a model's manifest asks for.

use std::{collections::BTreeMap, str::FromStr};

use crate::{
    Window,
    series::{Kind, Stack},
    views::View,
};

/// What a manifest asks for. The default is one picture: of a radiograph as it is, of a stack its middle slice.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct ImagePolicy {
    /// Which slices of a stack, or frames of a cine.
    pub slices: Slices,
    /// Several of them in one picture.
    pub montage: Option<Montage>,
    /// Through which windows; none is the file's own.
    pub windows: Vec<WindowChoice>,
    /// What becomes of several windows.
    pub windows_as: WindowsAs,
    /// How many images reach the model at most.
    pub limit: Limit,
}

/// How many images reach the model at most: one unless the manifest says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Limit(pub u32);

impl Default for Limit {
    fn default() -> Self {
        Self(1)
    }
}

/// Which slices of a stack, or frames of a cine.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Slices {
    /// The one in the middle; of a cine the one that the file recommends.
    #[default]
    Middle,
    /// Every one.
    All,
    /// One every so many millimetres along the normal.
    EveryMillimetres(f64),
    /// So many, evenly spaced: each in the middle of its share of the stack.
    Evenly(u32),
}

/// A picture of several slices, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Montage {
    /// Slices from top to bottom.
    pub rows: u32,
    /// Slices from left to right.
    pub columns: u32,
    /// Width and height of the place of one slice, in pixels; the slice is fitted into it.
    pub cell: u32,
}

impl Montage {
    /// How many slices there is room for.
    pub fn places(self) -> usize {
        self.rows as usize * self.columns as usize
    }
}

/// What becomes of several windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowsAs {
    /// An image each, one after the other for every slice.
    #[default]
    Images,
    /// Red, green and blue of one image: three windows.
    Channels,
}

/// A window that a manifest asks for.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowChoice {
    /// The file's own, the first of several.
    File,
    /// Of the file's own the one with these words in its explanation, or else the first.
    Explained(String),
    /// Of the file's own the one whose width is nearest to this, in the modality's units, or else the first.
    OfWidth(f64),
    /// One of [`PRESETS`]. It means Hounsfield units, so it is taken of CT alone; of MR the middle 98 percent of the stack
    /// are shown instead, of anything else the file's own window.
    Preset {
        /// Its name.
        name: &'static str,
        /// The value that becomes middle grey, in HU.
        center: f64,
        /// From black to white, in HU.
        width: f64,
    },
    /// Numbers of the manifest's own, in the modality's units.
    Explicit {
        /// The value that becomes middle grey.
        center: f64,
        /// From black to white.
        width: f64,
    },
    /// From one percentile of the values of the whole stack to another, so that its slices agree; padding does not count.
    Percentiles {
        /// What becomes black, in percent.
        low: f64,
        /// What becomes white, in percent.
        high: f64,
    },
}

/// Presets for CT by name, centre and width in HU. Lung, mediastinum (soft tissue), bone and brain are those that the
/// OHIF viewer offers first; texts differ by some tens of HU. Liver is the narrow window of abdominal CT, between the
/// centres 30 and 90 that texts and viewers give it.
pub const PRESETS: [(&str, f64, f64); 5] = [
    ("lung", -600.0, 1500.0),
    ("mediastinum", 40.0, 400.0),
    ("bone", 480.0, 2500.0),
    ("brain", 40.0, 80.0),
    ("liver", 60.0, 150.0),
];

/// The percentiles of `percentiles` without numbers.
const USUAL_PERCENTILES: WindowChoice = WindowChoice::Percentiles { low: 1.0, high: 99.0 };

/// How a stack's values become grey.
#[derive(Debug, Clone, PartialEq)]
pub enum WindowFor {
    /// By the file's own window, the first of several.
    File,
    /// By the one of them with these words in its explanation.
    Explained(String),
    /// By the one of them whose width is nearest to this.
    OfWidth(f64),
    /// By this one.
    Fixed(Window),
    /// From one percentile of the stack to the other (see [`StackValues`](crate::StackValues)).
    Percentiles {
        /// In percent.
        low: f64,
        /// In percent.
        high: f64,
    },
}

impl WindowChoice {
    /// What it comes to for an image of a modality (0008,0060).
    pub fn of_modality(&self, modality: &str) -> WindowFor {
        match *self {
            Self::Preset { center, width, .. } if modality == "CT" => {
                WindowFor::Fixed(Window::Linear { center, width })
            }
            Self::Preset { .. } if modality == "MR" => USUAL_PERCENTILES.of_modality(modality),
            Self::Preset { .. } | Self::File => WindowFor::File,
            Self::Explained(ref words) => WindowFor::Explained(words.clone()),
            Self::OfWidth(width) => WindowFor::OfWidth(width),
            Self::Explicit { center, width } => WindowFor::Fixed(Window::Linear { center, width }),
            Self::Percentiles { low, high } => WindowFor::Percentiles { low, high },
        }
    }
}

/// A key of a manifest that asks for what there is not. The message says what it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("images.{key} is {found}; expected {expected}")]
pub struct PolicyError {
    /// The key.
    pub key: &'static str,
    /// What it is.
    pub found: String,
    /// What it may be.
    pub expected: &'static str,
}

/// The keys as a manifest states them.
#[derive(Debug, Clone, Default)]
pub struct PolicyKeys<'a> {
    /// `middle`, `all`, `every 5 mm`, `8 evenly`.
    pub slices: Option<&'a str>,
    /// Rows and columns.
    pub montage: Option<[u32; 2]>,
    /// Pixels of a montage's places.
    pub cell: Option<u32>,
    /// Each `file`, `file` and words or a width, the name of a preset, `center/width`, `percentiles` or `percentiles 0.5 99.5`.
    pub windows: &'a [String],
    /// `images` or `channels`.
    pub windows_as: Option<&'a str>,
    /// How many images.
    pub limit: Option<u32>,
}

impl ImagePolicy {
    /// The policy of a manifest's keys, with what is left out as documented at each.
    pub fn of(keys: &PolicyKeys<'_>) -> Result<Self, PolicyError> {
        let windows = keys.windows.iter().map(|text| text.parse()).collect::<Result<Vec<WindowChoice>, _>>()?;
        let windows_as = match keys.windows_as {
            None | Some("images") => WindowsAs::Images,
            Some("channels") if windows.len() == 3 => WindowsAs::Channels,
            Some("channels") => {
                let found = format!("\"channels\" with {} windows", windows.len());
                return Err(PolicyError { key: "windows_as", found, expected: "three windows for three channels" });
            }
            Some(other) => return Err(wrong("windows_as", other, "\"images\" or \"channels\"")),
        };
        let montage = keys.montage.map(|shape| montage(shape, keys.cell)).transpose()?;
        if let (None, Some(cell)) = (montage, keys.cell) {
            return Err(PolicyError { key: "cell", found: cell.to_string(), expected: "a montage beside it" });
        }
        let slices = match (keys.slices, montage) {
            (Some(text), _) => text.parse()?,
            // A montage is filled unless something else is asked for.
            (None, Some(montage)) => Slices::Evenly(montage.rows * montage.columns),
            (None, None) => Slices::Middle,
        };
        let limit = match keys.limit {
            None => Limit::default(),
            Some(limit @ 1..=MOST_IMAGES) => Limit(limit),
            Some(other) => return Err(wrong("limit", other, "a number of images from 1 to 512")),
        };
        Ok(Self { slices, montage, windows, windows_as, limit })
    }
}

const MOST_IMAGES: u32 = 512;

fn wrong(key: &'static str, found: impl std::fmt::Display, expected: &'static str) -> PolicyError {
    let found = found.to_string();
    let found = if found.parse::<f64>().is_ok() { found } else { format!("{found:?}") };
    PolicyError { key, found, expected }
}

fn montage([rows, columns]: [u32; 2], cell: Option<u32>) -> Result<Montage, PolicyError> {
    const USUAL_CELL: u32 = 256;
    let cell = cell.unwrap_or(USUAL_CELL);
    if !(1..=20).contains(&rows) || !(1..=20).contains(&columns) {
        let found = format!("[{rows}, {columns}]");
        return Err(PolicyError { key: "montage", found, expected: "[rows, columns], each from 1 to 20" });
    }
    if !(16..=1024).contains(&cell) || rows.max(columns) * cell > 8192 {
        return Err(wrong("cell", cell, "16 to 1024 pixels, and at most 8192 for all rows or all columns together"));
    }
    Ok(Montage { rows, columns, cell })
}

impl FromStr for Slices {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let wrong =
            || wrong("slices", text, "\"middle\", \"all\", \"every 5 mm\" (up to 1000), or \"8 evenly\" (1 to 10000)");
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["middle"] => Ok(Self::Middle),
            ["all"] => Ok(Self::All),
            ["every", number, "mm"] => {
                let distance = number.parse().ok().filter(|it: &f64| *it > 0.0 && *it <= 1000.0);
                distance.map(Self::EveryMillimetres).ok_or_else(wrong)
            }
            [number, "evenly"] | [number, "evenly", "spaced"] => {
                let count = number.parse().ok().filter(|count| (1..=10_000).contains(count));
                count.map(Self::Evenly).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl FromStr for WindowChoice {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let wrong = || {
            let expected = "\"file\", \"file WORDS\" of its explanation, \"file 1500\" for the nearest width, \"lung\", \"mediastinum\", \"bone\", \"brain\", \"liver\", a centre and a width as \
                            \"40/400\", \"percentiles\", or \"percentiles 1 99\"";
            wrong("windows", text, expected)
        };
        let number = |text: &str| text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        if let Some((center, width)) = text.split_once('/') {
            let (center, width) = number(center).zip(number(width)).ok_or_else(wrong)?;
            // PS3.3 C.11.2.1.2: a linear window is at least 1 wide.
            return if width >= 1.0 { Ok(Self::Explicit { center, width }) } else { Err(wrong()) };
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["file"] => Ok(Self::File),
            ["file", width] if number(width).is_some() => {
                number(width).filter(|width| *width > 0.0).map(Self::OfWidth).ok_or_else(wrong)
            }
            ["file", words @ ..] => Ok(Self::Explained(words.join(" "))),
            ["percentiles"] => Ok(USUAL_PERCENTILES),
            ["percentiles", low, high] => {
                let (low, high) = number(low).zip(number(high)).ok_or_else(wrong)?;
                let in_order = (0.0..=100.0).contains(&low) && low < high && high <= 100.0;
                in_order.then_some(Self::Percentiles { low, high }).ok_or_else(wrong)
            }
            [name] => {
                let preset = PRESETS.iter().find(|(known, ..)| known == name);
                preset.map(|&(name, center, width)| Self::Preset { name, center, width }).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

/// One image for the model: frames of one stack, one of them unless it is a montage.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Planned {
    /// Index of the stack.
    pub stack: usize,
    /// Indices of its frames, in order.
    pub frames: Vec<usize>,
    /// Indices of the policy's windows: one, or three for three channels; none is the file's own.
    pub windows: Vec<usize>,
}

/// What the model will see, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Plan {
    /// Image by image.
    pub images: Vec<Planned>,
    /// What was decided on the way, for the record.
    pub notes: Vec<String>,
}

impl ImagePolicy {
    /// Chooses images from the stacks, which are in reading order (see [`reading_order`]): from the first one what the
    /// policy asks for, then from the next, until the limit is reached. Of a stack with more images than there is room
    /// for, evenly spaced ones are taken.
    pub fn plan(&self, stacks: &[Stack], order: &[usize]) -> Plan {
        let mut plan = Plan::default();
        let limit = self.limit.0 as usize;
        for &index in order {
            let room = limit - plan.images.len();
            if room == 0 {
                break;
            }
            let Some(stack) = stacks.get(index).filter(|stack| !stack.frames.is_empty()) else { continue };
            let (mut pages, note) = self.pages(stack);
            plan.notes.extend(note.map(|note| format!("stack {}: {note}", index + 1)));
            let windows = match self.windows_as {
                WindowsAs::Channels => vec![(0..self.windows.len()).collect()],
                WindowsAs::Images if self.windows.is_empty() => vec![Vec::new()],
                WindowsAs::Images => (0..self.windows.len()).map(|window| vec![window]).collect::<Vec<_>>(),
            };
            let allowed = (room / windows.len()).max(1);
            if pages.len() > allowed {
                let note = format!(
                    "stack {}: the model reads at most {limit} images, so {allowed} of {} evenly spaced ones are taken",
                    index + 1,
                    pages.len()
                );
                plan.notes.push(note);
                pages = evenly(pages.len(), allowed).into_iter().map(|at| std::mem::take(&mut pages[at])).collect();
            }
            for frames in pages {
                let each = windows.iter().map(|windows| Planned {
                    stack: index,
                    frames: frames.clone(),
                    windows: windows.clone(),
                });
                plan.images.extend(each.take(limit - plan.images.len()));
            }
        }
        plan
    }

    /// The frames of each image that a stack gives.
    fn pages(&self, stack: &Stack) -> (Vec<Vec<usize>>, Option<String>) {
        let (frames, note) = chosen(self.slices, stack);
        let per_page = match self.montage {
            // A single picture is no montage.
            Some(montage) if stack.kind != Kind::Picture => montage.places(),
            _ => 1,
        };
        (frames.chunks(per_page).map(<[usize]>::to_vec).collect(), note)
    }
}

/// The frames of a stack that a choice means.
fn chosen(slices: Slices, stack: &Stack) -> (Vec<usize>, Option<String>) {
    let count = stack.frames.len();
    match slices {
        Slices::All => ((0..count).collect(), None),
        Slices::Middle => {
            let recommended = stack.frames.iter().position(|frame| frame.recommended);
            (vec![recommended.unwrap_or(count / 2)], None)
        }
        Slices::Evenly(wanted) => (evenly(count, wanted as usize), None),
        Slices::EveryMillimetres(distance) => {
            let positions: Option<Vec<f64>> = stack.frames.iter().map(|frame| frame.position_mm).collect();
            match positions {
                Some(positions) => (every(&positions, distance), None),
                None => {
                    let note = "no slice says where it lies, so every one is taken in place of one every so many mm";
                    ((0..count).collect(), (count > 1).then(|| note.to_owned()))
                }
            }
        }
    }
}

/// So many of `count`, each in the middle of its share; all when there are not more.
pub(crate) fn evenly(count: usize, wanted: usize) -> Vec<usize> {
    if wanted >= count {
        return (0..count).collect();
    }
    (0..wanted).map(|share| (2 * share + 1) * count / (2 * wanted)).collect()
}

/// The slices nearest to every so many millimetres from the first one; each once. `positions` ascend.
fn every(positions: &[f64], distance: f64) -> Vec<usize> {
    let Some(&first) = positions.first() else { return Vec::new() };
    let mut nearest: BTreeMap<i64, (f64, usize)> = BTreeMap::new();
    for (index, position) in positions.iter().enumerate() {
        let mark = ((position - first) / distance).round();
        let off = (position - first - mark * distance).abs();
        #[expect(clippy::cast_possible_truncation)] // saturates
        let best = nearest.entry(mark as i64).or_insert((off, index));
        if off + 1e-9 < best.0 {
            *best = (off, index);
        }
    }
    nearest.into_values().map(|(_, index)| index).collect()
}

/// In which order a model takes stacks: views that its manifest names first; slices that are only a few beside a large
/// stack of the study (a scan that waits for contrast, a repeated slice) last; else as they are. A model of several
/// images gets one of each named view, in the manifest's order, before a second one of any.
pub fn reading_order(stacks: &[Stack], views: &[View], wanted: &[String], limit: Limit) -> Vec<usize> {
    let largest = stacks.iter().filter(|it| it.kind == Kind::Slices).map(|it| it.frames.len()).max().unwrap_or(0);
    let mut seen = vec![0usize; wanted.len()];
    let mut keyed: Vec<(usize, usize, bool, usize)> = (0..stacks.len())
        .map(|index| {
            let named = views.get(index).and_then(|view| wanted.iter().position(|wanted| view.is(wanted)));
            let (turn, place) = match named {
                Some(_) if limit.0 == 1 => (0, 0),
                Some(place) => {
                    seen[place] += 1;
                    (seen[place] - 1, place)
                }
                None => (usize::MAX, 0),
            };
            let stack = &stacks[index];
            let few = stack.kind == Kind::Slices && stack.frames.len() * 4 < largest;
            (turn, place, few, index)
        })
        .collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(.., index)| index).collect()
}
