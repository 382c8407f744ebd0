//! What came twice under one SOP Instance UID: whether it is the same image in another encoding, or another one.
//!
//! Done apart from receiving, because values and pixels are decoded for it.

use std::path::Path;

use dataset::{Header, Instance, Limits};
use spool::{Compared, Pair, Spool};

/// Files beyond this are not decoded to be compared: what differs in their bytes is taken to differ.
const MOST_BYTES: u64 = 512 << 20;

/// Attributes that are named, where more differ.
const MOST_NAMES: usize = 6;

/// Pairs that are compared before anything else is done.
const AT_A_TIME: usize = 64;

/// Compares what came twice and was not compared yet. Answers how many pairs there were.
pub(crate) async fn new_ones(spool: &Spool, limits: &Limits) -> Result<usize, spool::Error> {
    each(spool, spool.uncompared(AT_A_TIME)?, limits).await
}

/// The same of one SOP Instance UID.
pub(crate) async fn those_under(spool: &Spool, sop_instance_uid: &str, limits: &Limits) -> Result<usize, spool::Error> {
    each(spool, spool.uncompared_under(sop_instance_uid)?, limits).await
}

async fn each(spool: &Spool, pairs: Vec<Pair>, limits: &Limits) -> Result<usize, spool::Error> {
    for pair in &pairs {
        let (compared, limits) = (pair.clone(), limits.clone());
        let found = tokio::task::spawn_blocking(move || of_pair(&compared, &limits)).await;
        // A decoder's panic is caught where it decodes; whatever else it was, there is no telling.
        let found = found.unwrap_or_else(|_| Compared::Differs(CANNOT_TELL.to_owned()));
        if let Compared::Differs(attributes) = &found {
            tracing::warn!(study = pair.study, attributes, "an instance came again under its UID with other values");
        }
        spool.compared(pair, found).await?;
    }
    Ok(pairs.len())
}

const CANNOT_TELL: &str = "they cannot be compared";

fn of_pair(pair: &Pair, limits: &Limits) -> Compared {
    if pair.own {
        return Compared::Document;
    }
    let is_document = |path: &Path| Header::open(path, limits).is_ok_and(|header| is_no_image(&header));
    let found = compare(&pair.first, &pair.second, limits);
    match found {
        Compared::Differs(_) if is_document(&pair.first) && is_document(&pair.second) => Compared::Document,
        found => found,
    }
}

fn is_no_image(header: &Header) -> bool {
    pixel::choose(&[header]).skipped.iter().any(|(_, reason)| reason.is_no_image())
}

/// Compares two Part 10 files, by values and samples.
fn compare(first: &Path, second: &Path, limits: &Limits) -> Compared {
    let limits = Limits { instance_bytes: limits.instance_bytes.min(MOST_BYTES), ..limits.clone() };
    let (Ok(first), Ok(second)) = (Instance::open(first, &limits), Instance::open(second, &limits)) else {
        return Compared::Differs(CANNOT_TELL.to_owned());
    };
    let mut differing = dataset::differing(&first, &second);
    let pixels = pixel::same_pixels(&first, &second, &pixel::Limits::default());
    if matches!(pixels, Ok(true)) && first.header.transfer_syntax != second.header.transfer_syntax {
        // How colours and planes are laid out belongs to the encoding, where the samples are the same.
        differing.remove(&dataset::tags::PHOTOMETRIC_INTERPRETATION);
        differing.remove(&dataset::tags::PLANAR_CONFIGURATION);
    }
    // What a person has to know first: whose it is, and whether the image itself is another one.
    let of_patient = |tag: &dataset::Tag| tag.group() == 0x0010;
    let (patient, others): (Vec<_>, Vec<_>) = differing.into_iter().partition(of_patient);
    let mut names: Vec<String> = patient.into_iter().map(dataset::keyword).collect();
    match pixels {
        Ok(true) => {}
        Ok(false) => names.insert(0, "pixels".to_owned()),
        Err(_) => names.insert(0, "pixels, which cannot be compared".to_owned()),
    }
    names.extend(others.into_iter().map(dataset::keyword));
    if names.len() > MOST_NAMES {
        let more = names.len() - MOST_NAMES;
        names.truncate(MOST_NAMES);
        names.push(format!("{more} more"));
    }
    if names.is_empty() { Compared::Same } else { Compared::Differs(names.join(", ")) }
}
