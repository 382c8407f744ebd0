use std::collections::BTreeMap;

use dataset::Uid;

use super::{
    frame::{Apart, Frame},
    geometry::{Plane, dot, length, minus},
};
use crate::render::Source;

/// What a stack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Slices through the patient.
    Slices,
    /// Frames in time, or of another sequence without positions: ultrasound, angiography.
    Frames,
    /// One picture: a radiograph, a mammogram.
    Picture,
}

/// By what the frames of a stack are in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By Image Position (Patient) along the normal of Image Orientation (Patient), lowest first.
    Position,
    /// By In-Stack Position Number, because not every frame says where it lies.
    InStackPosition,
    /// By Instance Number, because not every image says where it lies.
    InstanceNumber,
    /// By the number of the frame in its image.
    FrameNumber,
}

/// A frame in its place.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StackFrame {
    /// The caller's index of its image.
    #[serde(skip)]
    pub image: usize,
    /// Which frame.
    #[serde(flatten)]
    pub source: Source,
    /// Where it lies along the normal, in mm; nothing without geometry.
    pub position_mm: Option<f64>,
    /// Whether its image says that this frame stands for all: Representative Frame Number (0028,6010), else the first of
    /// Frame Numbers of Interest (0028,6020).
    pub recommended: bool,
}

/// The distances between neighbouring slices, in mm.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct SliceSpacing {
    /// The median.
    pub usual_mm: f64,
    /// The least.
    pub least_mm: f64,
    /// The greatest, gaps included.
    pub greatest_mm: f64,
    /// Whether every distance is the usual one, within a twentieth of it; gaps do not count.
    pub regular: bool,
}

/// A place where slices are missing.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Gap {
    /// The slice before it, counted from 0.
    pub after: usize,
    /// From that slice to the next, in mm.
    pub distance_mm: f64,
    /// How many slices of the usual distance are missing, at least 1.
    pub missing: u32,
}

/// Frames that belong together, in order. No two slices of a stack are at one position.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Stack {
    /// Its series.
    pub series_instance_uid: Uid,
    /// What it is.
    pub kind: Kind,
    /// By what its frames are in order.
    pub order: Order,
    /// What tells it from other stacks of the series, with the value that it has.
    pub apart: BTreeMap<Apart, String>,
    /// The frames.
    pub frames: Vec<StackFrame>,
    /// The distances between slices, when there are at least two with a position.
    pub spacing: Option<SliceSpacing>,
    /// Where slices are missing.
    pub gaps: Vec<Gap>,
    /// The angle between the normal and the line from the first to the last slice, in degrees: not 0 where the gantry
    /// was tilted.
    pub shear_degrees: f64,
}

/// Puts the frames of a study into stacks: by series number, series and instance number. Every frame is in exactly one.
pub fn stacks(frames: Vec<Frame>) -> Vec<Stack> {
    let mut by_series: BTreeMap<(i64, Uid), Vec<Frame>> = BTreeMap::new();
    for frame in frames {
        by_series.entry(frame.series.clone()).or_default().push(frame);
    }
    by_series.into_values().flat_map(of_series).collect()
}

/// How one group of frames came about.
#[derive(Default)]
struct Group {
    frames: Vec<Frame>,
    apart: Vec<Apart>,
    /// Nothing but the order told this group from its twin.
    ordinal: Option<usize>,
}

fn of_series(frames: Vec<Frame>) -> Vec<Stack> {
    let (mut slices, mut others): (Vec<Frame>, Vec<Frame>) = frames.into_iter().partition(|it| it.plane.is_some());
    let mut found = Vec::new();
    slices.sort_by_cached_key(number);
    for parallel in by_direction(slices) {
        let always = Group { frames: parallel, ..Group::default() };
        for group in split_always(always) {
            for group in split_collisions(group) {
                found.push(in_order_of_position(group));
            }
        }
    }
    others.sort_by_cached_key(number);
    found.extend(without_geometry(others));
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.into_iter().map(|(_, stack)| stack).collect()
}

type Number = (i64, Source);

/// By instance number. The order of the caller's images makes no difference: the UID decides between equals.
fn number(frame: &Frame) -> Number {
    (frame.instance_number, frame.source.clone())
}

fn by_direction(frames: Vec<Frame>) -> Vec<Vec<Frame>> {
    let mut groups: Vec<(Plane, Vec<Frame>)> = Vec::new();
    for frame in frames {
        let Some(plane) = frame.plane else { continue };
        match groups.iter_mut().find(|(first, _)| first.is_parallel(&plane)) {
            Some((_, group)) => group.push(frame),
            None => groups.push((plane, vec![frame])),
        }
    }
    groups.into_iter().map(|(_, frames)| frames).collect()
}

fn split_always(group: Group) -> Vec<Group> {
    Apart::ALWAYS
        .into_iter()
        .fold(vec![group], |groups, what| groups.into_iter().flat_map(|group| split(group, what)).collect())
}

/// By the values of an attribute, which absence is one of.
fn split(group: Group, what: Apart) -> Vec<Group> {
    let mut parts: BTreeMap<Option<String>, Vec<Frame>> = BTreeMap::new();
    for frame in group.frames {
        parts.entry(frame.apart.get(&what).cloned()).or_default().push(frame);
    }
    let mut apart = group.apart;
    if parts.len() > 1 {
        apart.push(what);
    }
    parts.into_values().map(|frames| Group { frames, apart: apart.clone(), ordinal: group.ordinal }).collect()
}

/// Splits until no two frames of a group are at one position. An attribute is used when it takes at least two values and
/// not more than there are frames at the fullest position: one that differs from slice to slice would tear a stack apart.
fn split_collisions(group: Group) -> Vec<Group> {
    let mut open = vec![(group, 0)];
    let mut done = Vec::new();
    while let Some((group, tried)) = open.pop() {
        let crowd = crowd(&group.frames);
        if crowd <= 1 {
            done.push(group);
            continue;
        }
        let Some(what) = Apart::ON_COLLISION.get(tried) else {
            done.extend(by_rank(group));
            continue;
        };
        let values: std::collections::BTreeSet<_> = group.frames.iter().map(|frame| frame.apart.get(what)).collect();
        if (2..=crowd).contains(&values.len()) && separates(&group.frames, *what, crowd) {
            open.extend(split(group, *what).into_iter().map(|part| (part, tried + 1)));
        } else {
            open.push((group, tried + 1));
        }
    }
    done
}

/// Whether the fullest position is less full once the attribute has split the frames.
fn separates(frames: &[Frame], what: Apart, crowd_before: usize) -> bool {
    let mut parts: BTreeMap<Option<&String>, Vec<Frame>> = BTreeMap::new();
    for frame in frames {
        parts.entry(frame.apart.get(&what)).or_default().push(frame.clone());
    }
    parts.values().map(|part| crowd(part)).max().unwrap_or(0) < crowd_before
}

/// Positions along the common normal in mm, or without planes In-Stack Position Numbers, lowest first, each with its
/// frame.
fn in_place(frames: &[Frame]) -> Vec<(f64, &Frame)> {
    let normal = frames.iter().find_map(|it| it.plane).map(|plane| plane.normal()).unwrap_or_default();
    let place = |it: &Frame| match it.plane {
        Some(plane) => dot(plane.position, normal),
        #[expect(clippy::cast_precision_loss)] // a count of frames
        None => it.in_stack_position.unwrap_or_default() as f64,
    };
    let mut placed: Vec<(f64, &Frame)> = frames.iter().map(|it| (place(it), it)).collect();
    placed.sort_by(|a, b| a.0.total_cmp(&b.0));
    placed
}

/// How far apart two frames may lie and still be at one position: a twentieth of the distance that most neighbours
/// have, at least a hundredth of a millimetre.
fn tolerance(positions: &[f64]) -> f64 {
    const LEAST: f64 = 0.01;
    let mut distances: Vec<f64> =
        positions.windows(2).map(|pair| pair[1] - pair[0]).filter(|distance| *distance > LEAST).collect();
    distances.sort_by(f64::total_cmp);
    // Three quarters up: where echoes jitter, half of the distances are no distances between slices.
    distances.get(distances.len() * 3 / 4).map_or(LEAST, |usual| (usual / 20.0).max(LEAST))
}

/// The frames of each position.
fn places<'a>(frames: &'a [Frame]) -> Vec<Vec<&'a Frame>> {
    let placed = in_place(frames);
    let tolerance = tolerance(&placed.iter().map(|(at, _)| *at).collect::<Vec<_>>());
    let mut places: Vec<(f64, Vec<&'a Frame>)> = Vec::new();
    for (at, frame) in placed {
        match places.last_mut() {
            Some((first, here)) if at - *first <= tolerance => here.push(frame),
            _ => places.push((at, vec![frame])),
        }
    }
    places.into_iter().map(|(_, frames)| frames).collect()
}

/// How many frames there are at the fullest position.
fn crowd(frames: &[Frame]) -> usize {
    places(frames).iter().map(Vec::len).max().unwrap_or(0)
}

/// The first frame of each position by instance number makes one group, the second another.
fn by_rank(group: Group) -> Vec<Group> {
    let mut ranks: Vec<Vec<Frame>> = Vec::new();
    for mut here in places(&group.frames) {
        here.sort_by_cached_key(|frame| number(frame));
        for (rank, frame) in here.into_iter().enumerate() {
            if ranks.len() <= rank {
                ranks.push(Vec::new());
            }
            ranks[rank].push(frame.clone());
        }
    }
    let of_rank = |(rank, frames)| Group { frames, apart: group.apart.clone(), ordinal: Some(rank) };
    ranks.into_iter().enumerate().map(of_rank).collect()
}

fn in_order_of_position(group: Group) -> (Number, Stack) {
    let placed = in_place(&group.frames);
    let positions: Vec<f64> = placed.iter().map(|(at, _)| *at).collect();
    let (spacing, gaps) = distances(&positions);
    let shear_degrees = match (placed.first().and_then(|it| it.1.plane), placed.last().and_then(|it| it.1.plane)) {
        (Some(first), Some(last)) => shear(&first, &last),
        _ => 0.0,
    };
    let frames = placed.iter().map(|(at, frame)| stack_frame(frame, Some(*at))).collect();
    stack(&group, Kind::Slices, Order::Position, frames, (spacing, gaps, shear_degrees))
}

fn shear(first: &Plane, last: &Plane) -> f64 {
    let way = minus(last.position, first.position);
    let whole = length(way);
    if whole == 0.0 { 0.0 } else { (dot(way, first.normal()) / whole).clamp(-1.0, 1.0).acos().to_degrees() }
}

fn stack_frame(frame: &Frame, position_mm: Option<f64>) -> StackFrame {
    StackFrame { image: frame.image, source: frame.source.clone(), position_mm, recommended: frame.recommended }
}

type Distances = (Option<SliceSpacing>, Vec<Gap>, f64);

fn stack(
    group: &Group,
    kind: Kind,
    order: Order,
    frames: Vec<StackFrame>,
    (spacing, gaps, shear_degrees): Distances,
) -> (Number, Stack) {
    let first = &group.frames[0];
    let said = |what: &Apart| (*what, first.apart.get(what).cloned().unwrap_or_else(|| "not stated".to_owned()));
    let ordinal = group.ordinal.map(|rank| (Apart::InstanceNumber, (rank + 1).to_string()));
    let apart = group.apart.iter().map(said).chain(ordinal).collect();
    let number = group.frames.iter().map(number).min().unwrap_or_else(|| number(first));
    let series_instance_uid = first.series.1.clone();
    (number, Stack { series_instance_uid, kind, order, apart, frames, spacing, gaps, shear_degrees })
}

/// A gap is one and a half of the usual distance or more.
fn distances(positions: &[f64]) -> (Option<SliceSpacing>, Vec<Gap>) {
    let between: Vec<f64> = positions.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mut sorted = between.clone();
    sorted.sort_by(f64::total_cmp);
    let (Some(&least_mm), Some(&greatest_mm)) = (sorted.first(), sorted.last()) else { return (None, Vec::new()) };
    let usual_mm = sorted[(sorted.len() - 1) / 2];
    let is_gap = |distance: f64| distance >= usual_mm * 1.5;
    let gap = |(after, &distance_mm): (usize, &f64)| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
        let missing = ((distance_mm / usual_mm).round() as u32).saturating_sub(1).max(1);
        is_gap(distance_mm).then_some(Gap { after, distance_mm, missing })
    };
    let gaps = between.iter().enumerate().filter_map(gap).collect();
    let regular = between.iter().all(|it| is_gap(*it) || (it - usual_mm).abs() <= usual_mm / 20.0);
    (Some(SliceSpacing { usual_mm, least_mm, greatest_mm, regular }), gaps)
}

/// Cross sections that do not say where they lie are a stack by their numbers; of anything else each image is one.
fn without_geometry(frames: Vec<Frame>) -> Vec<(Number, Stack)> {
    let mut found = Vec::new();
    let (sections, others): (Vec<Frame>, Vec<Frame>) = frames.into_iter().partition(|it| it.of_cross_section);
    if !sections.is_empty() {
        for group in split_always(Group { frames: sections, ..Group::default() }) {
            let frames = group.frames.iter().map(|frame| stack_frame(frame, None)).collect();
            found.push(stack(&group, Kind::Slices, Order::InstanceNumber, frames, Distances::default()));
        }
    }
    let mut by_image: BTreeMap<usize, Vec<Frame>> = BTreeMap::new();
    for frame in others {
        by_image.entry(frame.image).or_default().push(frame);
    }
    for mut frames in by_image.into_values() {
        let several = frames[0].frames_of_image > 1;
        let counted = several && frames.iter().all(|it| it.in_stack_position.is_some());
        frames.sort_by_key(|it| it.source.frame);
        for group in split_always(Group { frames, ..Group::default() }) {
            if counted {
                for group in split_collisions(group) {
                    let frames = in_place(&group.frames).iter().map(|(_, frame)| stack_frame(frame, None)).collect();
                    found.push(stack(&group, Kind::Slices, Order::InStackPosition, frames, Distances::default()));
                }
            } else {
                let kind = if several { Kind::Frames } else { Kind::Picture };
                let frames = group.frames.iter().map(|frame| stack_frame(frame, None)).collect();
                found.push(stack(&group, kind, Order::FrameNumber, frames, Distances::default()));
            }
        }
    }
    found
}
