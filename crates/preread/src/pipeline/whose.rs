//! Which instances of a study are to be read: images, of one patient, each of which is what its UID means. What is not
//! sure, a person decides; what is left out is named, so that a report does not say that it has seen everything.

use std::{collections::BTreeMap, path::PathBuf};

use dataset::{Header, Limits, Uid};
use spool::{Claim, Compared, Decision, Lineage, StudyDetail, Timestamp};

use super::{
    End, StudyInstance,
    compare::compare,
    count_reasons,
    identity::{self, Acceptance, Choice, Identity},
    images::LeftOut,
    rejected,
};

/// What is known of a study besides its instances: what else came under their UIDs, and what a person decided.
#[derive(Default)]
pub(crate) struct Decisions {
    /// In which attributes the data sets differ that wait for a decision; one entry for each.
    open: Vec<String>,
    /// Those data sets.
    in_question: Vec<StudyInstance>,
    /// What was left out before: quarantined, and decided of.
    quarantined: Vec<LeftOut>,
    /// Versions of documents that came besides under the UIDs of others.
    documents: Vec<PathBuf>,
    /// Instances whose SOP Instance UID another study had before.
    of_two_studies: BTreeMap<Uid, Decision>,
    accepted: Option<Acceptance>,
    /// Whom earlier reports were filed under, by the UIDs of their documents.
    filed_under: BTreeMap<String, Option<Identity>>,
    /// When instances came; nothing for files that came from nowhere.
    received_at: BTreeMap<Uid, Timestamp>,
}

impl Decisions {
    /// What the spool says of a study that is to be read.
    pub(crate) fn of(claim: &Claim, lineage: &Lineage) -> Self {
        let mut decisions =
            Self { accepted: claim.accepted.as_deref().and_then(|word| word.parse().ok()), ..Self::default() };
        for it in &claim.quarantined {
            let reason = match it.decision {
                // It came after the study had settled; where it differs, the study is looked at again.
                None => continue,
                Some(Decision::Open) => {
                    decisions.open.push(it.differs.clone().unwrap_or_default());
                    decisions.in_question.push(StudyInstance {
                        path: it.path.clone(),
                        source: it.source.clone(),
                        digest: it.digest.clone(),
                        kept_as: None,
                    });
                    continue;
                }
                Some(Decision::Aside) => "it came later under the SOP Instance UID of another one, which a person kept",
                // A correction takes the place of what it corrects; another image does not.
                Some(Decision::Superseded) if it.of_another_series => {
                    "its SOP Instance UID is that of another one, which a person made count"
                }
                Some(Decision::Document) => {
                    decisions.documents.push(it.path.clone());
                    continue;
                }
                Some(_) => continue,
            };
            let Ok(sop_instance_uid) = it.sop_instance_uid.parse() else { continue };
            decisions.quarantined.push(LeftOut::image(sop_instance_uid, reason.to_owned(), it.digest.clone()));
        }
        for instance in &claim.instances {
            let Ok(uid) = instance.sop_instance_uid.parse::<Uid>() else { continue };
            decisions.received_at.insert(uid.clone(), instance.received_at);
            if let Some(decision) = instance.decision {
                decisions.of_two_studies.insert(uid, decision);
            }
        }
        for it in &lineage.predecessors {
            let patient = it.patient.as_deref().and_then(|word| word.parse().ok());
            decisions.filed_under.insert(it.sop_instance_uid.clone(), patient);
        }
        decisions
    }

    /// Whether a report on this patient may name an earlier document as what it replaces: it may not where that was filed
    /// under another patient, or nobody knows under whom.
    pub(super) fn may_name(&self, document: &Uid, patient: &Identity) -> bool {
        let Some(filed_under) = self.filed_under.get(document.as_str()) else { return true };
        filed_under.is_some_and(|of_document| of_document.is_filed_with(patient))
    }

    /// Versions of the study's documents that came besides under their UIDs: what one of them says counts, whichever came
    /// first.
    pub(super) fn documents(&self) -> &[PathBuf] {
        &self.documents
    }

    /// The data sets that would count if a person decided so.
    pub(super) fn in_question(&self) -> &[StudyInstance] {
        &self.in_question
    }

    fn are_of_a_spool(&self) -> bool {
        !self.received_at.is_empty()
    }
}

/// What a study's instances are to its reading.
pub(super) struct Sorted<'a> {
    /// The images, in reading order.
    pub(super) images: Vec<(Header, &'a StudyInstance)>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) notes: Vec<String>,
    /// What a person must decide before anything is read, if a rule takes any of the images at all, or of those in
    /// question.
    pub(super) doubt: Option<End>,
    /// Files of other values under the UIDs of images.
    pub(super) in_question: Instances<'a>,
}

/// Sorts the instances of a study. Errors with the end of a study that has no image to read.
pub(super) fn sort<'a>(
    instances: Vec<(Header, &'a StudyInstance)>,
    decisions: &Decisions,
    limits: &Limits,
) -> Result<Sorted<'a>, End> {
    let mut left_out = decisions.quarantined.clone();
    let (images, documents) = without_documents(instances);
    if images.is_empty() && !documents.is_empty() {
        return Err(End::Skipped { reason: format!("it holds no image: {}", count_reasons(&documents)) });
    }
    left_out.extend(documents);
    let is_aside =
        |(header, _): &(Header, _)| decisions.of_two_studies.get(&header.sop_instance_uid) == Some(&Decision::Aside);
    let (aside, images): (Vec<_>, Vec<_>) = images.into_iter().partition(is_aside);
    let reason = "its SOP Instance UID is that of an image of another study, which a person kept";
    left_out.extend(aside.iter().map(|(header, instance)| left(header, instance, reason)));

    let Versions { images, copies, in_question, differing } = versions(images, limits);
    left_out.extend(copies);
    let identities: Vec<Identity> = images.iter().map(|(header, _)| Identity::of(header)).collect();
    let mut doubt = conflict(&images, decisions, &differing).or_else(|| undecodable(&images));
    let mut images = images;
    let mut of_patient = identities.clone();
    match identity::choose(&identities, decisions.accepted.as_ref()) {
        Choice::Open(groups) => doubt = doubt.or_else(|| Some(several_patients(&images, &groups, decisions))),
        Choice::These(chosen) => {
            let mut is_chosen = chosen.iter();
            let (kept, others): (Vec<_>, Vec<_>) =
                images.into_iter().partition(|_| is_chosen.next().copied().unwrap_or(false));
            left_out.extend(others.iter().map(|(header, instance)| {
                left(header, instance, "another patient's, by what a person decided of the study")
            }));
            of_patient = identities.into_iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(it, _)| it).collect();
            images = kept;
        }
    }
    let (images, not_read) = to_read(images);
    left_out.extend(not_read);
    if images.is_empty() {
        let reason = format!("no image to read: {}", count_reasons(&left_out));
        return Err(doubt.unwrap_or(End::Held { what: "no image to read", reason, rule: None }));
    }
    let names = identity::names(&of_patient);
    let notes = if names > 1 {
        vec![format!("the patient's name is written in {names} ways; the report has the one of the first image")]
    } else {
        Vec::new()
    };
    Ok(Sorted { images, left_out, notes, doubt, in_question })
}

fn left(header: &Header, instance: &StudyInstance, reason: &str) -> LeftOut {
    LeftOut::image(header.sop_instance_uid.clone(), reason.to_owned(), instance.digest.clone())
}

type Instances<'a> = Vec<(Header, &'a StudyInstance)>;

/// Takes out what is no image.
fn without_documents(instances: Instances<'_>) -> (Instances<'_>, Vec<LeftOut>) {
    let headers: Vec<&Header> = instances.iter().map(|(header, _)| header).collect();
    let mut reasons: BTreeMap<usize, pixel::Reason> =
        pixel::choose(&headers).skipped.into_iter().filter(|(_, reason)| reason.is_no_image()).collect();
    let (mut images, mut documents) = (Vec::new(), Vec::new());
    for (index, (header, instance)) in instances.into_iter().enumerate() {
        match reasons.remove(&index) {
            Some(reason) => documents.push(LeftOut::document(header.sop_instance_uid, reason.to_string())),
            None => images.push((header, instance)),
        }
    }
    (images, documents)
}

/// Files of images, by their SOP Instance UIDs.
struct Versions<'a> {
    /// One of each.
    images: Instances<'a>,
    /// The same once more, also in another encoding.
    copies: Vec<LeftOut>,
    /// Those with other values.
    in_question: Instances<'a>,
    /// In which attributes they differ.
    differing: Vec<String>,
}

/// Tells the images apart that have one UID, as those are that come to a spool. In which order they lie makes no difference.
fn versions<'a>(images: Instances<'a>, limits: &Limits) -> Versions<'a> {
    let mut found = Versions { images: Vec::new(), copies: Vec::new(), in_question: Vec::new(), differing: Vec::new() };
    let mut of_uid: BTreeMap<Uid, Instances<'a>> = BTreeMap::new();
    for (header, instance) in images {
        // Without identity they have the same UID, which is none.
        match header.require_identity() {
            Ok(()) => of_uid.entry(header.sop_instance_uid.clone()).or_default().push((header, instance)),
            Err(_) => found.images.push((header, instance)),
        }
    }
    for mut files in of_uid.into_values() {
        files.sort_by(|(_, one), (_, other)| one.digest.cmp(&other.digest));
        let mut files = files.into_iter();
        let Some(first) = files.next() else { continue };
        for (header, instance) in files {
            let same = instance.digest == first.1.digest;
            match if same { Compared::Same } else { compare(&first.1.path, &instance.path, limits) } {
                Compared::Differs(attributes) => {
                    found.differing.push(attributes);
                    found.in_question.push((header, instance));
                }
                _ => {
                    found.copies.push(LeftOut::document(header.sop_instance_uid, pixel::Reason::Duplicate.to_string()))
                }
            }
        }
        found.images.push(first);
    }
    found
}

/// The images that can be read, in reading order, and the others.
fn to_read(images: Instances<'_>) -> (Instances<'_>, Vec<LeftOut>) {
    let selection = pixel::choose(&images.iter().map(|(header, _)| header).collect::<Vec<_>>());
    let not_read = |(index, reason): &(usize, pixel::Reason)| {
        let (header, instance) = &images[*index];
        left(header, instance, &reason.to_string())
    };
    let not_read: Vec<LeftOut> = selection.skipped.iter().map(not_read).collect();
    let mut images: Vec<Option<_>> = images.into_iter().map(Some).collect();
    (selection.chosen.iter().filter_map(|index| images[*index].take()).collect(), not_read)
}

fn held(what: &'static str, reason: String) -> End {
    End::Held { what, reason, rule: None }
}

fn images_in_words(count: usize) -> String {
    if count == 1 { "1 image".to_owned() } else { format!("{count} images") }
}

/// What came twice under one UID and waits for a decision.
fn conflict(images: &[(Header, &StudyInstance)], decisions: &Decisions, of_files: &[String]) -> Option<End> {
    const WHAT: &str = "images came again under their UIDs with other values";
    let is_open =
        |(header, _): &&(Header, _)| decisions.of_two_studies.get(&header.sop_instance_uid) == Some(&Decision::Open);
    let of_two_studies = images.iter().filter(is_open).count();
    let mut reasons = Vec::new();
    let came_again = |all: &[String]| {
        let mut differing: Vec<&str> = all.iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
        differing.sort_unstable();
        differing.dedup();
        let count = images_in_words(all.len());
        format!("{count} came again under the same SOP Instance UID with other values ({})", differing.join("; "))
    };
    if !decisions.open.is_empty() {
        reasons.push(format!(
            "{}: `preread queue accept ID` makes what came last count, `preread queue accept ID --older` keeps what came \
             first",
            came_again(&decisions.open)
        ));
    }
    if !of_files.is_empty() {
        reasons.push(format!("{}: read the files of each version by themselves", came_again(of_files)));
    }
    if of_two_studies > 0 {
        reasons.push(format!(
            "{} under a SOP Instance UID that an image of another study has: `preread queue accept ID` reads what came \
             for this study, `preread queue accept ID --older` leaves it out",
            images_in_words(of_two_studies)
        ));
    }
    (!reasons.is_empty()).then(|| held(WHAT, reasons.join("; ")))
}

fn undecodable(images: &[(Header, &StudyInstance)]) -> Option<End> {
    const BY_SET: &str = "cannot be decoded by Specific Character Set (0008,0005)";
    const WITHOUT_SET: &str =
        "has bytes that are no characters without a Specific Character Set (0008,0005), and there is none";
    const NOT_KEPT: &str = "is longer than 64 KiB or no text";
    let mut counts: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for (header, _) in images {
        let why = if identity::declares_characters(header) { BY_SET } else { WITHOUT_SET };
        let of_set = identity::undecodable(header).into_iter().map(|tag| (tag, why));
        for (tag, why) in of_set.chain(header.unread_identity().map(|tag| (tag, NOT_KEPT))) {
            *counts.entry(why).or_default().entry(dataset::keyword(tag)).or_insert(0) += 1;
        }
    }
    let reasons: Vec<String> = counts
        .into_iter()
        .map(|(why, counts)| {
            let list: Vec<String> =
                counts.into_iter().map(|(name, count)| format!("{name} of {}", images_in_words(count))).collect();
            format!("{} {why}", list.join(", "))
        })
        .collect();
    (!reasons.is_empty()).then(|| {
        let reason =
            format!("{}; nothing is guessed: mend it at the source and send the study again", reasons.join("; "));
        held("the patient's identity cannot be decoded", reason)
    })
}

fn several_patients(images: &[(Header, &StudyInstance)], groups: &[usize], decisions: &Decisions) -> End {
    let count = groups.iter().max().map_or(0, |last| last + 1);
    let group = |number: usize| {
        let of_group = || images.iter().zip(groups).filter(|(_, group)| **group == number).map(|(image, _)| image);
        let mut sources: Vec<&str> = of_group().map(|(_, instance)| instance.source.as_str()).collect();
        sources.sort_unstable();
        sources.dedup();
        let first = of_group().filter_map(|(header, _)| decisions.received_at.get(&header.sop_instance_uid)).min();
        let since = first.map(|at| format!(" since {}", crate::clock::in_words(*at))).unwrap_or_default();
        format!("group {}: {} from {}{since}", number + 1, images_in_words(of_group().count()), sources.join(", "))
    };
    // More would hide what is to be done about it.
    let mut listed: Vec<String> = (0..count.min(8)).map(group).collect();
    if count > listed.len() {
        listed.push(format!("{} more", count - listed.len()));
    }
    let what_to_do = if decisions.are_of_a_spool() {
        "`preread queue show ID` says whose they are, `preread queue accept ID --group N` which count"
    } else {
        "read the files of each patient by themselves"
    };
    let listed = listed.join("; ");
    if count == 1 {
        return held(
            "nothing is left of the patient whose images count",
            format!(
                "a person decided whose images count, and what is left is not that patient's alone: {listed}; {what_to_do}"
            ),
        );
    }
    held(
        "images of several patients under one Study Instance UID",
        format!("its images are of {count} different patients by what they state: {listed}; {what_to_do}"),
    )
}

/// Instances of a study that are of one patient by what they state.
pub(crate) struct Group {
    /// Those of it, as indices of what was asked about.
    pub(crate) members: Vec<usize>,
    /// The header of the first.
    pub(crate) first: Header,
}

/// The patients of a study in the spool, of those images that may be read, and what each of these states of its own; `Err`
/// says which file cannot be read.
pub(crate) fn groups_of(study: &StudyDetail, limits: &Limits) -> Result<(Vec<Group>, Vec<Identity>), dataset::Error> {
    let rejected = rejected::in_spool(&study.instances, &study.quarantined, limits);
    let mut headers = Vec::new();
    for (index, instance) in study.instances.iter().enumerate() {
        let is_out = instance.own
            || instance.decision == Some(Decision::Aside)
            || rejected.contains_key(&instance.sop_instance_uid);
        if !is_out {
            headers.push((index, Header::open(&instance.path, limits)?));
        }
    }
    let all: Vec<&Header> = headers.iter().map(|(_, header)| header).collect();
    let documents: Vec<usize> = pixel::choose(&all)
        .skipped
        .into_iter()
        .filter(|(_, reason)| reason.is_no_image())
        .map(|(index, _)| headers[index].0)
        .collect();
    headers.retain(|(index, _)| !documents.contains(index));
    let identities: Vec<Identity> = headers.iter().map(|(_, header)| Identity::of(header)).collect();
    let mut found: Vec<Group> = Vec::new();
    for ((index, header), number) in headers.into_iter().zip(identity::groups(&identities)) {
        match found.get_mut(number) {
            Some(group) => group.members.push(index),
            None => found.push(Group { members: vec![index], first: header }),
        }
    }
    Ok((found, identities))
}

/// Which of the groups that [`groups_of`] answers count by what a person decided; nothing where that is open.
pub(crate) fn accepted_groups(
    groups: &[Group],
    identities: &[Identity],
    accepted: Option<&Acceptance>,
) -> Option<Vec<usize>> {
    match identity::choose(identities, accepted) {
        Choice::Open(_) => None,
        Choice::These(chosen) => {
            // Identities stand in the order of the groups' members.
            let mut members: Vec<(usize, usize)> = Vec::new();
            for (number, group) in groups.iter().enumerate() {
                members.extend(group.members.iter().map(|member| (*member, number)));
            }
            members.sort_unstable();
            let mut counting: Vec<usize> =
                members.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|((_, number), _)| *number).collect();
            counting.sort_unstable();
            counting.dedup();
            Some(counting)
        }
    }
}
