//! Documents among a study's instances that decide of its reading without being read: a report that somebody verified.
//! Rejection notes are another kind of them (see `rejected.rs`).

use std::path::{Path, PathBuf};

use dataset::{Header, Limits, tags};

use super::{StudyInstance, images::LeftOut, rejected};

/// Why nothing is delivered of a study whose verified report is there.
pub(crate) const VERIFIED: &str = "a verified report of the study is there already: no draft is delivered beside it";

/// Whether a verified report is among what came: a document whose Verification Flag (0040,A493) says VERIFIED, that is not
/// ours and that nobody rejected. Of a document that came in several versions, each counts.
pub(super) fn is_verified(
    instances: &[(Header, &StudyInstance)],
    versions: &[PathBuf],
    rejected: &[LeftOut],
    limits: &Limits,
) -> bool {
    let is_rejected = |header: &Header| rejected.iter().any(|it| it.sop_instance_uid == header.sop_instance_uid);
    let versions = versions.iter().filter_map(|path| Header::open(path, limits).ok());
    instances.iter().any(|(header, _)| is_verified_report(header))
        || versions.into_iter().any(|header| is_verified_report(&header) && !is_rejected(&header))
}

fn is_verified_report(header: &Header) -> bool {
    let flag = header.text(tags::VERIFICATION_FLAG);
    flag.is_some_and(|it| it == "VERIFIED") && !header.has_pixel_data() && !header.is_our_own()
}

/// Whether the reading of its study depends on what this document says.
pub(super) fn is_said_in(path: &Path, limits: &Limits) -> bool {
    Header::open(path, limits).is_ok_and(|header| is_verified_report(&header)) || rejected::is_rejecting(path, limits)
}
