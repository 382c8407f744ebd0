//! The files that the tests read; where they are absent, a test says so and has nothing to do.

use std::path::{Path, PathBuf};

use dicom_object::InMemDicomObject;
use report::sr::TextClass;

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

/// The name that dciodvfy has for an IOD.
pub(crate) fn iod(class: TextClass) -> &'static str {
    match class {
        TextClass::BasicText => "BasicTextSR",
        TextClass::Enhanced => "EnhancedSR",
    }
}
