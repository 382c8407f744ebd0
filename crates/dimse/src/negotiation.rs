//! What the two sides agree on when an association is established (PS3.7 annex D, PS3.8 section 7.1).
//!
//! Written here and not taken from dicom-ul's `ServerAssociationOptions`, because that can neither answer "local limit
//! exceeded", nor refuse a presentation context by a rule, nor say whose implementation this is.

use std::collections::BTreeMap;

use dataset::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, TransferSyntax};
use dicom_core::dictionary::UidDictionary;
use dicom_dictionary_std::{StandardSopClassDictionary, uids};
use dicom_ul::pdu::{
    AssociationAC, AssociationRQ, DEFAULT_MAX_PDU, PresentationContextProposed, PresentationContextResult,
    PresentationContextResultReason, UserVariableItem,
};

/// PS3.7 annex A.2.1.
pub(crate) const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
/// Version 1 of the upper layer, bit 0 (PS3.8 section 9.3.2).
pub(crate) const PROTOCOL_VERSION: u16 = 1;

/// A presentation context that both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) abstract_syntax: String,
    pub(crate) transfer_syntax: TransferSyntax,
}

/// Presentation contexts by their ID.
pub(crate) type Contexts = BTreeMap<u8, Context>;

/// What we say about ourselves.
pub(crate) fn user_variables(max_pdu_length: u32) -> Vec<UserVariableItem> {
    vec![
        UserVariableItem::MaxLength(max_pdu_length),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()),
    ]
}

/// The Maximum Length that the peer stated.
pub(crate) fn max_length(variables: &[UserVariableItem]) -> u32 {
    let stated = |item: &UserVariableItem| match item {
        UserVariableItem::MaxLength(length) => Some(*length),
        _ => None,
    };
    variables.iter().find_map(stated).unwrap_or(DEFAULT_MAX_PDU)
}

/// The Implementation Version Name that the peer gave, safe to print.
pub(crate) fn implementation(variables: &[UserVariableItem]) -> Option<String> {
    variables.iter().find_map(|item| match item {
        UserVariableItem::ImplementationVersionName(name) => Some(printable(name)),
        _ => None,
    })
}

/// A peer's own text (AE titles, version names), which may hold anything, for a log line.
pub(crate) fn printable(text: &str) -> String {
    text.trim_matches(['\0', ' ']).escape_debug().take(64).collect()
}

/// The acceptor's answer to a request, and the contexts agreed on.
pub(crate) fn accept(request: AssociationRQ, max_pdu_length: u32) -> (AssociationAC, Contexts) {
    let mut contexts = Contexts::new();
    let results = request.presentation_contexts.into_iter().map(|proposed| {
        let id = proposed.id;
        let (reason, transfer_syntax) = match agree(proposed) {
            Ok(context) => {
                let uid = context.transfer_syntax.uid();
                contexts.insert(id, context);
                (PresentationContextResultReason::Acceptance, uid)
            }
            // Not significant in a refusal (PS3.8 table 9-18), but a field that has to be there.
            Err(reason) => (reason, TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN),
        };
        PresentationContextResult { id, reason, transfer_syntax: transfer_syntax.to_owned() }
    });
    let accepted = AssociationAC {
        protocol_version: PROTOCOL_VERSION,
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        called_ae_title: request.called_ae_title,
        calling_ae_title: request.calling_ae_title,
        presentation_contexts: results.collect(),
        user_variables: user_variables(max_pdu_length),
    };
    (accepted, contexts)
}

/// The first proposed transfer syntax that we know: a requestor lists first what it need not convert to.
fn agree(proposed: PresentationContextProposed) -> Result<Context, PresentationContextResultReason> {
    let abstract_syntax = proposed.abstract_syntax.trim_end_matches(['\0', ' ']).to_owned();
    if abstract_syntax != uids::VERIFICATION && !is_storage_class(&abstract_syntax) {
        return Err(PresentationContextResultReason::AbstractSyntaxNotSupported);
    }
    let known = proposed.transfer_syntaxes.iter().find_map(|uid| TransferSyntax::from_uid(uid).ok());
    let transfer_syntax = known.ok_or(PresentationContextResultReason::TransferSyntaxesNotSupported)?;
    Ok(Context { abstract_syntax, transfer_syntax })
}

/// Whether a SOP class is one of the storage service: the standard's, those of editions to come (they are numbered under
/// the same root), and every private one (PS3.4 annex B.5).
pub(crate) fn is_storage_class(uid: &str) -> bool {
    const STANDARD: &str = "1.2.840.10008.";
    const COMPOSITE: &str = "1.2.840.10008.5.1.4.1.1.";
    const ELSEWHERE: [&str; 2] =
        [uids::RT_BEAMS_DELIVERY_INSTRUCTION_STORAGE, uids::RT_BRACHY_APPLICATION_SETUP_DELIVERY_INSTRUCTION_STORAGE];
    if uid.starts_with(COMPOSITE) {
        // A few queries share the root.
        return StandardSopClassDictionary.by_uid(uid).is_none_or(|class| class.name.contains("Storage"));
    }
    let private = !uid.starts_with(STANDARD) && uid.parse::<dataset::Uid>().is_ok();
    private || ELSEWHERE.contains(&uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_classes_are_told_from_others() {
        let storage = [
            uids::CT_IMAGE_STORAGE,
            uids::COMPREHENSIVE3_DSR_STORAGE,
            uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
            uids::RT_BEAMS_DELIVERY_INSTRUCTION_STORAGE,
            uids::XA_PERFORMED_PROCEDURE_PROTOCOL_STORAGE,
            "1.2.840.10008.5.1.4.1.1.999.1",
            "1.2.840.113619.4.30",
        ];
        let others = [
            uids::VERIFICATION,
            uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
            uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
            uids::STORAGE_COMMITMENT_PUSH_MODEL,
            uids::HANGING_PROTOCOL_STORAGE,
            "1.2.840.10008.5.1.4.1.1.201.2",
            "",
            "not a uid",
        ];
        assert!(storage.iter().all(|uid| is_storage_class(uid)));
        assert_eq!(others.iter().find(|uid| is_storage_class(uid)), None);
    }

    #[test]
    fn contexts_are_accepted_one_by_one() {
        let proposed = |id, abstract_syntax: &str, transfer_syntaxes: &[&str]| PresentationContextProposed {
            id,
            abstract_syntax: abstract_syntax.to_owned(),
            transfer_syntaxes: transfer_syntaxes.iter().map(|&uid| uid.to_owned()).collect(),
        };
        let request = AssociationRQ {
            protocol_version: 1,
            calling_ae_title: "A".to_owned(),
            called_ae_title: "B".to_owned(),
            application_context_name: APPLICATION_CONTEXT.to_owned(),
            presentation_contexts: vec![
                proposed(1, uids::VERIFICATION, &["1.2.840.10008.1.2"]),
                proposed(3, uids::CT_IMAGE_STORAGE, &["1.2.3.4", "1.2.840.10008.1.2.4.90\0", "1.2.840.10008.1.2"]),
                proposed(5, uids::CT_IMAGE_STORAGE, &["1.2.3.4"]),
                proposed(7, uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND, &["1.2.840.10008.1.2"]),
            ],
            user_variables: vec![],
        };
        let (answer, contexts) = accept(request, 16384);
        use PresentationContextResultReason::{AbstractSyntaxNotSupported, Acceptance, TransferSyntaxesNotSupported};
        let reasons: Vec<_> = answer.presentation_contexts.into_iter().map(|result| result.reason).collect();
        assert_eq!(reasons, [Acceptance, Acceptance, TransferSyntaxesNotSupported, AbstractSyntaxNotSupported]);
        assert_eq!(contexts.keys().copied().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(contexts[&3].transfer_syntax.uid(), "1.2.840.10008.1.2.4.90");
    }
}
