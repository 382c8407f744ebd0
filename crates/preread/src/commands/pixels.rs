use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use dataset::{Header, Instance, Limits, Uid};
use pixel::{ContactSheet, Kind, StackSummary, Thumbnail};
use serde::Serialize;

use crate::{cli::Pixels, output::shown};

/// What `pixel` makes of a file: numbers to compare, or the picture. Of a folder: what is chosen, and a contact sheet.
pub(crate) fn run(arguments: &Pixels) -> Result<ExitCode> {
    if arguments.path.is_dir() {
        return folder(arguments);
    }
    let context = || shown(&arguments.path);
    let limits = pixel::Limits::default();
    // What is cheap to know comes first: the pixels of what is too large are not read.
    let header = Header::open(&arguments.path, &Limits::default()).with_context(context)?;
    pixel::check_size(&header, &limits).with_context(context)?;
    let instance = Instance::open(&arguments.path, &Limits::default()).with_context(context)?;
    let frame = arguments.frame.unwrap_or(1) - 1;
    if let Some(out) = &arguments.out {
        let picture =
            pixel::render(&instance, frame, &pixel::RenderOptions::default(), &limits).with_context(context)?;
        super::private::write(out, pixel::png(&picture)).with_context(|| shown(out))?;
    }
    if arguments.json || arguments.out.is_none() {
        let description = pixel::describe(&instance, frame, &limits).with_context(context)?;
        super::print_json(&description)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is chosen of a folder.
#[derive(Serialize)]
struct Choice {
    studies: Vec<StudyChoice>,
    /// Files that are no DICOM instances.
    unreadable: Vec<Unreadable>,
}

#[derive(Serialize)]
struct StudyChoice {
    study_instance_uid: Uid,
    stacks: Vec<StackSummary>,
    /// Images for reading, in reading order.
    chosen: Vec<Chosen>,
    left_out: Vec<LeftOut>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Chosen {
    sop_instance_uid: Uid,
    /// Indices of the stacks that it has a frame in.
    stacks: Vec<usize>,
}

#[derive(Serialize)]
struct LeftOut {
    sop_instance_uid: Uid,
    reason: String,
}

#[derive(Serialize)]
struct Unreadable {
    path: String,
    error: String,
}

fn folder(arguments: &Pixels) -> Result<ExitCode> {
    if arguments.frame.is_some() {
        return Err(super::usage("--frame is for one file; a folder shows every frame that there is room for"));
    }
    let (studies, unreadable) = super::read::by_study(&super::files_of(std::slice::from_ref(&arguments.path))?);
    if studies.is_empty() {
        bail!("{}: no DICOM instance among the {} files in it", shown(&arguments.path), unreadable.len());
    }
    let unreadable =
        unreadable.into_iter().map(|(path, error)| Unreadable { path: path.display().to_string(), error }).collect();
    let mut choice = Choice { studies: Vec::new(), unreadable };
    let mut sheet = Sheet::default();
    let several = studies.len() > 1;
    // What is not drawn need not be decoded.
    let most = if arguments.out.is_some() { MOST_THUMBNAILS / studies.len().min(MOST_THUMBNAILS) } else { 0 };
    for (number, (uid, files)) in (1..).zip(studies) {
        let (study, thumbnails) = study(uid, &files, most)?;
        for thumbnail in thumbnails {
            let prefix = if several { format!("ST{number} ") } else { String::new() };
            sheet.add(&thumbnail, &(prefix + &label(&study.stacks[thumbnail.stack], thumbnail.frame)));
        }
        choice.studies.push(study);
    }
    if let Some(out) = &arguments.out {
        write_sheet(out, sheet)?;
    }
    if arguments.json {
        super::print_json(&choice)?;
    } else {
        choice.studies.iter().for_each(print);
    }
    Ok(ExitCode::SUCCESS)
}

fn study(uid: Uid, files: &[std::path::PathBuf], most: usize) -> Result<(StudyChoice, Vec<Thumbnail>)> {
    let limits = Limits::default();
    let open = |path: &std::path::PathBuf| Header::open(path, &limits).with_context(|| shown(path));
    let headers = files.iter().map(open).collect::<Result<Vec<Header>>>()?;
    let selection = pixel::choose(&headers.iter().collect::<Vec<_>>());
    let chosen: Vec<&Header> = selection.chosen.iter().map(|index| &headers[*index]).collect();
    let open = |index: usize| Instance::open(&files[selection.chosen[index]], &limits);
    let ContactSheet { thumbnails, stacks, stacks_of, unread, notes } =
        pixel::contact_sheet(&chosen, SIDE, most, pixel::Limits::default(), Box::new(open));
    let left_out = selection.skipped.iter().map(|(index, reason)| (&headers[*index], reason.to_string()));
    let left_out = left_out.chain(unread.iter().map(|(index, why)| (chosen[*index], why.to_string())));
    let left_out: Vec<LeftOut> = left_out
        .map(|(header, reason)| LeftOut { sop_instance_uid: header.sop_instance_uid.clone(), reason })
        .collect();
    let is_unread = |index: usize| unread.iter().any(|(unread, _)| *unread == index);
    let chosen = chosen.iter().enumerate().filter(|(index, _)| !is_unread(*index)).map(|(index, header)| Chosen {
        sop_instance_uid: header.sop_instance_uid.clone(),
        stacks: stacks_of.get(&index).map(|stacks| stacks.iter().copied().collect()).unwrap_or_default(),
    });
    Ok((StudyChoice { study_instance_uid: uid, chosen: chosen.collect(), stacks, left_out, notes }, thumbnails))
}

/// Series number, stack where there are several, and the view. Nothing of the patient.
fn name(stack: &StackSummary) -> String {
    let mut name = stack.series_number.map_or("S-".to_owned(), |number| format!("S{number}"));
    if stack.of > 1 && stack.kind != Kind::Picture {
        name += &format!(".{}", stack.number);
    }
    if let Some(view) = &stack.view {
        name += &format!(" {view}");
    }
    name
}

/// The name of its stack, and its place there.
fn label(stack: &StackSummary, frame: usize) -> String {
    let place = if stack.frames > 1 { format!(" {}/{}", frame + 1, stack.frames) } else { String::new() };
    name(stack) + &place
}

fn print(study: &StudyChoice) {
    println!("study: {} images for reading, {} left out", study.chosen.len(), study.left_out.len());
    for stack in &study.stacks {
        let kind = match stack.kind {
            Kind::Slices => "slices",
            Kind::Frames => "frames",
            Kind::Picture => "picture",
        };
        let spacing = stack.spacing.map(|it| format!(", {:.2} mm apart", it.usual_mm)).unwrap_or_default();
        let gaps = if stack.gaps.is_empty() { String::new() } else { format!(", {} gaps", stack.gaps.len()) };
        println!("  {:<16} {} {kind}{spacing}{gaps}", name(stack), stack.frames);
    }
    let mut reasons = std::collections::BTreeMap::new();
    for left_out in &study.left_out {
        *reasons.entry(&left_out.reason).or_insert(0) += 1;
    }
    for (reason, count) in reasons {
        println!("  left out: {count} x {reason}");
    }
    for note in &study.notes {
        println!("  note: {note}");
    }
}

/// Pixels of a side of a small picture.
const SIDE: u32 = 128;
/// Small pictures of a sheet, which is then some ten thousand pixels high.
const MOST_THUMBNAILS: usize = 1024;
/// Small pictures side by side.
const ACROSS: usize = 16;

/// A sheet that grows line by line.
#[derive(Default)]
struct Sheet {
    /// Each of `SIDE` by `height` pixels, three samples each.
    cells: Vec<Vec<u8>>,
    height: usize,
}

impl Sheet {
    fn add(&mut self, thumbnail: &Thumbnail, label: &str) {
        let side = SIDE as usize;
        let (caption_height, mut cell) = report::heatmap::caption(label, side);
        self.height = caption_height + side;
        let picture = &thumbnail.picture;
        let (width, height) = (picture.width as usize, picture.height as usize);
        let (left, top) = ((side - width) / 2, caption_height + (side - height) / 2);
        cell.resize(side * self.height * 3, 0);
        for (line, pixels) in (top..).zip(picture.rgb.chunks_exact(width * 3)) {
            let at = (line * side + left) * 3;
            cell[at..at + pixels.len()].copy_from_slice(pixels);
        }
        self.cells.push(cell);
    }
}

fn write_sheet(out: &Path, sheet: Sheet) -> Result<()> {
    if sheet.cells.is_empty() {
        bail!("no image of the folder can be shown, so that there is no contact sheet");
    }
    let side = SIDE as usize;
    // About as wide as high, until it is as wide as a screen.
    let across = sheet.cells.len().isqrt().max(1).clamp(4.min(sheet.cells.len()), ACROSS);
    let lines = sheet.cells.len().div_ceil(across);
    let (width, height) = (across * side, lines * sheet.height);
    let mut rgb = vec![0; width * height * 3];
    for (place, cell) in sheet.cells.iter().enumerate() {
        let (line, column) = (place / across, place % across);
        for (row, pixels) in cell.chunks_exact(side * 3).enumerate() {
            let at = ((line * sheet.height + row) * width + column * side) * 3;
            rgb[at..at + pixels.len()].copy_from_slice(pixels);
        }
    }
    let png = pixel::rgb_png(u32::try_from(width)?, u32::try_from(height)?, &rgb);
    super::private::write(out, png).with_context(|| shown(out))
}
