//! What came twice under one SOP Instance UID: whether it is the same image in another encoding, or another one.
//!
//! Done apart from receiving, because values and pixels are decoded for it: noted before it begins, as a reading is, and
//! of nothing but what was received.

use std::path::Path;

use dataset::{Error, Header, Instance, Limits};
use spool::{Compared, Pair, PairFile, Spool};

use super::{KeptAs, StudyInstance, documents, kept};

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
        // What we made is not decoded.
        if !pair.own && !spool.begin_comparison(pair).await? {
            continue;
        }
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
const DAMAGED: &str = "they cannot be compared, one is damaged on the disk: `preread doctor --scrub` names its file";

fn of_pair(pair: &Pair, limits: &Limits) -> Compared {
    if pair.own {
        return Compared::Document;
    }
    let header = |file: &PairFile| kept::opened(&as_kept(pair, file), limits);
    let (first, second) = match (header(&pair.first), header(&pair.second)) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(Error::Damaged), _) | (_, Err(Error::Damaged)) => return Compared::Differs(DAMAGED.to_owned()),
        _ => return Compared::Differs(CANNOT_TELL.to_owned()),
    };
    match compare(&pair.first.path, &pair.second.path, limits) {
        Compared::Differs(_) if is_no_image(&first) && is_no_image(&second) => {
            if documents::is_said_in(&pair.second.path, limits) { Compared::Says } else { Compared::Document }
        }
        found => found,
    }
}

fn as_kept(pair: &Pair, file: &PairFile) -> StudyInstance {
    StudyInstance {
        path: file.path.clone(),
        source: String::new(),
        digest: file.digest.clone(),
        kept_as: Some(KeptAs {
            study_instance_uid: pair.study_instance_uid.clone(),
            sop_instance_uid: pair.sop_instance_uid.clone(),
            transfer_syntax_uid: file.transfer_syntax_uid.clone(),
        }),
    }
}

fn is_no_image(header: &Header) -> bool {
    pixel::choose(&[header]).skipped.iter().any(|(_, reason)| reason.is_no_image())
}

/// Compares two Part 10 files, by values and samples.
pub(super) fn compare(first: &Path, second: &Path, limits: &Limits) -> Compared {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use dataset::{Digest, part10};

    use super::*;

    #[test]
    fn a_pair_of_which_a_file_does_not_hold_what_came_is_not_taken_for_the_same() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/phantom-cxr/samples");
        let dir = tempfile::tempdir().unwrap();
        let original = samples.join("01-normal.dcm");
        let header = Header::open(&original, &Limits::default()).unwrap();
        let bytes = fs::read(&original).unwrap();
        let (_, data_set_at) = part10::Meta::parse(&bytes).unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            PairFile {
                path,
                digest: Digest::of(&bytes[data_set_at..]).to_string(),
                transfer_syntax_uid: header.transfer_syntax.uid().to_owned(),
            }
        };
        let check = |first: &PairFile, second: &PairFile, own: bool, expected: Compared| {
            let pair = Pair {
                id: 1,
                study: 1,
                study_instance_uid: header.study_instance_uid.to_string(),
                sop_instance_uid: header.sop_instance_uid.to_string(),
                first: first.clone(),
                second: second.clone(),
                own,
            };
            assert_eq!(of_pair(&pair, &Limits::default()), expected);
        };
        let damaged = || Compared::Differs(DAMAGED.to_owned());
        let (good, again) = (file("good", &bytes), file("again", &bytes));
        check(&good, &again, false, Compared::Same);
        // A byte of the pixels, changed on the disk after its digest was kept.
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        let other = file("other", &changed);
        check(&good, &other, false, Compared::Differs("pixels".to_owned()));
        fs::write(&again.path, &changed).unwrap();
        check(&good, &again, false, damaged());
        check(&again, &good, false, damaged());
        // The whole of another instance in its place, with the digest of its own.
        let swapped = fs::read(samples.join("03-nodule-large.dcm")).unwrap();
        check(&good, &file("swapped", &swapped), false, damaged());
        fs::write(&again.path, b"nothing").unwrap();
        check(&good, &again, false, damaged());
        check(&good, &again, true, Compared::Document);
    }
}
