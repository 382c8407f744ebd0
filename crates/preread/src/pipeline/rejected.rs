//! Rejection notes that come in (IHE RAD TF, Imaging Object Change Management): Key Object Selections that take images out
//! of the reading, and say that objects of ours are not to be used.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use dataset::{Header, Instance, Limits};
use report::rejection::{self, Rejection};
use spool::{Claim, ConflictView, Decision, InstanceView, Spool};

use super::{End, Study, StudyInstance, images::LeftOut};

const KEY_OBJECT_SELECTION: &str = "1.2.840.10008.5.1.4.1.1.88.59";

/// What a note means, in the words of its title.
type Title = &'static str;

/// What rejection notes leave of a study.
pub(super) struct Kept<'a> {
    pub(super) instances: Vec<(Header, &'a StudyInstance)>,
    pub(super) left_out: Vec<LeftOut>,
    /// What a person must see to first: notes that may reject images, and of which nobody can say which.
    pub(super) doubt: Option<End>,
}

/// Takes the images out that a rejection note among the instances, or among the other versions of their documents, names.
pub(super) fn taken_out<'a>(
    instances: Vec<(Header, &'a StudyInstance)>,
    versions: &[PathBuf],
    limits: &Limits,
) -> Kept<'a> {
    let notes = instances.iter().filter(|(header, _)| is_note(header)).map(|(_, it)| it.path.clone());
    let Named { by: named, unclear } = named_by(notes.chain(versions.iter().cloned()), limits);
    let doubt = (unclear > 0).then(cannot_be_read);
    if named.is_empty() {
        return Kept { instances, left_out: Vec::new(), doubt };
    }
    let (mut kept, mut rejected) = (Vec::new(), Vec::new());
    for (header, instance) in instances {
        match named.get(header.sop_instance_uid.as_str()) {
            Some(title) => {
                let reason = format!("{REJECTED} ({title})");
                let uid = header.sop_instance_uid.clone();
                rejected.push(if header.has_pixel_data() {
                    LeftOut::image(uid, reason, instance.digest.clone())
                } else {
                    LeftOut::document(uid, reason)
                });
            }
            None => kept.push((header, instance)),
        }
    }
    Kept { instances: kept, left_out: rejected, doubt }
}

fn cannot_be_read() -> End {
    let reason = "a Key Object Selection of this study cannot be read; it may reject images, so that none is read: see at its \
                  sender what it says, and then end the study with `preread queue drop`, or have its images sent again as a \
                  study without it";
    End::Held { what: "a Key Object Selection cannot be read", reason: reason.to_owned(), rule: None }
}

const REJECTED: &str = "rejected by its sender";

/// How a study ends of which every image was rejected; nothing where none was.
pub(super) fn nothing_left(rejected: &[LeftOut], study: &Study) -> Option<End> {
    let first = rejected.first()?;
    let reason = format!("every image that could be read was {}", first.reason.replace(" its ", " the "));
    Some(if study.predecessors.is_empty() {
        End::Skipped { reason }
    } else {
        let reason = format!(
            "{reason} after a report was made of them: `preread queue withdraw` calls that back where it was sent to, \
             and `preread queue drop` lets it stand"
        );
        End::Held { what: "every image was rejected after a report was made", reason, rule: None }
    })
}

/// Marks what of our own reports the rejection notes among a study's instances name, so that no later version follows it
/// and nobody takes it for valid.
pub(crate) async fn mark_own(spool: &Spool, claim: &Claim, limits: &Limits) -> Result<(), spool::Error> {
    let (seen, limits) = (claim.clone(), limits.clone());
    let named = tokio::task::spawn_blocking(move || in_spool(&seen.instances, &seen.quarantined, &limits)).await;
    let mut by_title: BTreeMap<Title, Vec<String>> = BTreeMap::new();
    for (uid, title) in named.unwrap_or_default() {
        if claim.instances.iter().all(|it| it.sop_instance_uid != uid) {
            by_title.entry(title).or_default().push(uid);
        }
    }
    for (title, uids) in by_title {
        let marked = spool.reject_objects(claim.study, uids, title.to_owned()).await?;
        if marked > 0 {
            tracing::warn!(objects = marked, title, "a rejection note names objects of our report; they are marked");
        }
    }
    Ok(())
}

/// The instances that the notes of a study in the spool name, by SOP Instance UID.
pub(super) fn in_spool(
    instances: &[InstanceView],
    quarantined: &[ConflictView],
    limits: &Limits,
) -> BTreeMap<String, Title> {
    let notes = instances.iter().filter(|it| it.sop_class_uid == KEY_OBJECT_SELECTION && !it.own).map(|it| &it.path);
    let versions = quarantined.iter().filter(|it| it.decision == Some(Decision::Document)).map(|it| &it.path);
    named_by(notes.chain(versions).cloned(), limits).by
}

/// Whether it is a note that rejects something, or may.
pub(super) fn is_rejecting(path: &Path, limits: &Limits) -> bool {
    let named = named_by(std::iter::once(path.to_owned()), limits);
    !named.by.is_empty() || named.unclear > 0
}

fn is_note(header: &Header) -> bool {
    header.sop_class_uid.as_str() == KEY_OBJECT_SELECTION
}

/// What notes say.
#[derive(Default)]
struct Named {
    /// The instances that they name, by SOP Instance UID.
    by: BTreeMap<String, Title>,
    /// How many do not let themselves be read, or do not say what they are or what they reject ([`rejection::is_unclear`]).
    unclear: usize,
}

/// What is no rejection note names nothing.
fn named_by(notes: impl Iterator<Item = PathBuf>, limits: &Limits) -> Named {
    let mut named = Named::default();
    for path in notes {
        match Instance::open(&path, limits) {
            Ok(note) if note.header.is_our_own() || !is_note(&note.header) => {}
            Ok(note) => {
                named.unclear += usize::from(rejection::is_unclear(&note));
                if let Some(Rejection { title, instances }) = rejection::read(&note) {
                    named.by.extend(instances.into_iter().map(|uid| (uid, title)));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a key object selection cannot be read; it may reject images");
                named.unclear += 1;
            }
        }
    }
    named
}
