//! SR Document Series and SR Document General (PS3.3 C.17.1, C.17.2): what an SR says of itself and of its sources.

use std::collections::BTreeSet;

use dataset::{Instance, tags};
use dicom_core::VR;

use crate::{
    content::one_line,
    copy::{Copier, Policy, is_whole_code, items},
    document::{Completion, Provenance, Source},
    elements::DataSet,
    header::{self, put_moment},
    references::{Place, hierarchy},
    uids::Kind,
    values::trimmed,
};

/// Everything between the modules of all kinds and the content tree of an SR.
pub(super) fn document_general(
    to: &mut DataSet,
    copier: &Copier<'_>,
    provenance: &Provenance,
    completion: &Completion,
) {
    match completion {
        Completion::Complete => to.put_bytes(tags::COMPLETION_FLAG, VR::CS, "COMPLETE"),
        Completion::Partial(why) => {
            to.put_bytes(tags::COMPLETION_FLAG, VR::CS, "PARTIAL");
            to.put_bytes(tags::COMPLETION_FLAG_DESCRIPTION, VR::LO, one_line(why));
        }
    }
    to.put_bytes(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    to.put_bytes(tags::PRELIMINARY_FLAG, VR::CS, "PRELIMINARY");
    to.put_items(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, copier.codes(tags::PROCEDURE_CODE_SEQUENCE));
    key_object_document(to, copier, provenance);
}

/// What a key object document has of it too (Key Object Document, PS3.3 C.17.6.2).
pub(crate) fn key_object_document(to: &mut DataSet, copier: &Copier<'_>, provenance: &Provenance) {
    to.put_items(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new());
    put_moment(to, (tags::CONTENT_DATE, tags::CONTENT_TIME), &provenance.content_time);
    let requests = requests(copier);
    if !requests.is_empty() {
        to.put_items(tags::REFERENCED_REQUEST_SEQUENCE, requests);
    }
}

/// Current Requested Procedure Evidence Sequence (0040,A375): everything analysed and everything that the tree refers to,
/// our own objects too, each once.
pub(crate) fn put_evidence<'a>(to: &mut DataSet, source: &'a Source<'_>, more: impl IntoIterator<Item = Place<'a>>) {
    let header = &source.representative.header;
    let representative =
        Place { series: &header.series_instance_uid, class: &header.sop_class_uid, instance: &header.sop_instance_uid };
    let places: BTreeSet<Place<'_>> =
        source.evidence.iter().map(Place::from).chain([representative]).chain(more).collect();
    let study = &header.study_instance_uid;
    to.put_items(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, vec![hierarchy(study, places)]);
}

/// Predecessor Documents Sequence (0040,A360): the earlier document that this one takes the place of.
pub(super) fn put_predecessors(to: &mut DataSet, source: &Source<'_>, kind: Kind) {
    let candidates = [kind].into_iter().chain(kind.same_in_another_class()).chain(TEXT_REPORTS);
    let of = |kind: Kind| source.predecessors.iter().find(|(of, _)| *of == kind).map(|(_, item)| item);
    if let Some(predecessor) = candidates.into_iter().find_map(of) {
        let study = &source.representative.header.study_instance_uid;
        to.put_items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, vec![hierarchy(study, [Place::from(predecessor)])]);
    }
}

/// One of these there is for every draft.
const TEXT_REPORTS: [Kind; 2] = [Kind::BasicTextReport, Kind::EnhancedTextReport];

/// What of a study's own attributes a report does not repeat as it stands in this image, and why: one sentence each, by
/// the attribute's keyword, never with a value.
pub fn copy_notes(representative: &Instance) -> Vec<String> {
    let copier = Copier::new(representative, Policy::Source);
    header::study(&copier);
    requests(&copier);
    copier.into_notes()
}

/// Referenced Request Sequence (0040,A370): the orders that the study fulfils, as far as its images tell.
fn requests(copier: &Copier<'_>) -> Vec<DataSet> {
    let header = &copier.source.header;
    let mut of_source = items(copier.source, tags::REQUEST_ATTRIBUTES_SEQUENCE);
    if of_source.is_empty() {
        of_source.push(DataSet::default());
    }
    let mut requests = Vec::new();
    for item in of_source {
        let item = copier.convert_item(item);
        let mut request = DataSet::default();
        let study = item.plain(tags::STUDY_INSTANCE_UID);
        let study = if study.is_empty() { header.study_instance_uid.as_str() } else { study };
        request.put_items(tags::REFERENCED_STUDY_SEQUENCE, Vec::new());
        let mut known = false;
        for (tag, vr, most_characters) in [
            (tags::ACCESSION_NUMBER, VR::SH, 16),
            (tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, 64),
            (tags::REQUESTED_PROCEDURE_ID, VR::SH, 16),
            (tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, 64),
            (tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, 64),
        ] {
            let own = item.bytes(tag).filter(|bytes| !trimmed(bytes).is_empty()).map(<[u8]>::to_vec);
            let value = own.or_else(|| copier.value(tag, vr));
            // At the top level a value links report and study and is repeated whatever it is; here, where it may be
            // empty (type 2), one that is too long is nothing to repeat.
            let fits = |value: &Vec<u8>| copier.decode(trimmed(value)).chars().count() <= most_characters;
            let value = value.filter(fits).unwrap_or_default();
            known |= !trimmed(&value).is_empty();
            request.put_bytes(tag, vr, value);
        }
        let whole = |code: &&DataSet| is_whole_code(code);
        let codes: Vec<DataSet> =
            item.items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE).iter().filter(whole).cloned().collect();
        known |= !codes.is_empty();
        request.put_items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, codes);
        request.put_bytes(tags::STUDY_INSTANCE_UID, VR::UI, study);
        if known {
            requests.push(request);
        }
    }
    requests
}
