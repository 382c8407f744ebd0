//! The files that the tests read; where they are absent, a test says so and has nothing to do.

use std::path::{Path, PathBuf};

use dataset::{Header, Limits};
use dicom_object::InMemDicomObject;

fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared")
}

fn files(folder: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(shared().join(folder)) else {
        println!("skipped: {folder} is not there");
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files
}

/// Instances with patients of many scripts, with sparse headers, of several modalities.
pub(crate) fn sources() -> impl Iterator<Item = PathBuf> {
    let whole = ["dicom/charset", "dicom/cr", "dicom/cxr_hannover"].into_iter().flat_map(files);
    let first = ["dicom/mg", "dicom/sm", "dicom/series_ct_liver"]
        .into_iter()
        .flat_map(|folder| files(folder).into_iter().take(1));
    whole.chain(first).filter(|path| !NO_IDENTITY.iter().any(|name| path.ends_with(name)))
}

/// One image of every study of the whole test set that can be reported on. What names itself by no legal UID (PS3.5
/// annex B) cannot be referred to by a legal document.
pub(crate) fn studies() -> Vec<PathBuf> {
    let mut of_study = std::collections::BTreeMap::new();
    let mut open: Vec<PathBuf> = files("dicom");
    while let Some(path) = open.pop() {
        let skipped = ["malformed", "refs", "LICENSES"].iter().any(|name| path.ends_with(name));
        if path.is_dir() && !skipped {
            let entries = std::fs::read_dir(&path).into_iter().flatten();
            open.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        } else if let Ok(header) = Header::open(&path, &Limits::default())
            && header.has_pixel_data()
            && header.require_identity().is_ok()
            // Pixels that are no picture: doses and segmentations are not read.
            && !matches!(header.modality().as_str(), "RTDOSE" | "SEG")
            && matches!(header.sop_instance_uid.as_str().as_bytes(), [b'0'..=b'2', b'.', ..])
        {
            of_study.insert(header.study_instance_uid.clone(), path);
        }
    }
    of_study.into_values().collect()
}

/// Files without the identifiers that a report needs.
const NO_IDENTITY: &[&str] = &["chrSQEncoding.dcm", "empty_charset_LEI.dcm"];

pub(crate) fn without_identity() -> impl Iterator<Item = PathBuf> {
    files("dicom/charset").into_iter().filter(|path| NO_IDENTITY.iter().any(|name| path.ends_with(name)))
}

/// SRs of others, each with the rules of ours that it breaks.
pub(crate) fn samples() -> Vec<(PathBuf, &'static [&'static str])> {
    let blank: &[&str] = &["blank-viewer"];
    files("sr_samples")
        .into_iter()
        .map(|path| {
            let blanks = path.file_name().is_some_and(|name| name.to_string_lossy().contains("1501only"));
            (path, if blanks { blank } else { &[] })
        })
        .collect()
}

/// Scheme, value and meaning of every code in an object.
pub(crate) fn codes(object: &InMemDicomObject, found: &mut Vec<(String, String, String)>) {
    let text = |name| object.element_by_name(name).ok().and_then(|it| it.to_str().ok().map(|it| it.trim().to_owned()));
    if let (Some(scheme), Some(value), Some(meaning)) =
        (text("CodingSchemeDesignator"), text("CodeValue"), text("CodeMeaning"))
    {
        found.push((scheme, value, meaning));
    }
    object.iter().filter_map(|element| element.items()).flatten().for_each(|item| codes(item, found));
}
