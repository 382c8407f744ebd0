//! What the two sides agree on when an association is established (PS3.7 annex D, PS3.8 section 7.1).
//!
//! Written here and not taken from dicom-ul's `ServerAssociationOptions`, because that can neither answer "local limit
//! exceeded", nor refuse a presentation context by a rule, nor say whose implementation this is.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use dataset::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, TransferSyntax, Uid};
use dicom_core::dictionary::UidDictionary;
use dicom_dictionary_std::{StandardSopClassDictionary, uids};
use dicom_ul::pdu::{
    AssociationAC, AssociationRQ, DEFAULT_MAX_PDU, PresentationContextProposed, PresentationContextResult,
    PresentationContextResultReason, RequestorRoles, UserVariableItem,
};

use crate::ServerConfig;

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

/// A service that is offered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// C-ECHO (PS3.4 annex A).
    Verification,
    /// C-STORE (PS3.4 annex B).
    Storage,
    /// N-ACTION and N-EVENT-REPORT (PS3.4 annex J).
    StorageCommitment,
}

impl Service {
    /// The service of a SOP class, where it is offered.
    fn of_class(uid: &str, private: &[SopClassPattern]) -> Option<Self> {
        match uid {
            uids::VERIFICATION => Some(Self::Verification),
            uids::STORAGE_COMMITMENT_PUSH_MODEL => Some(Self::StorageCommitment),
            uid => is_storage_class(uid, private).then_some(Self::Storage),
        }
    }

    /// The service of an accepted context.
    pub(crate) fn of_context(context: &Context) -> Self {
        Self::of_class(&context.abstract_syntax, &[]).unwrap_or(Self::Storage)
    }
}

/// The acceptor's answer to a request, and the contexts agreed on.
pub(crate) fn accept(request: AssociationRQ, config: &ServerConfig) -> (AssociationAC, Contexts) {
    let roles = role_selections(&request.user_variables);
    let mut contexts = Contexts::new();
    let mut results: Vec<PresentationContextResult> = Vec::new();
    for proposed in &request.presentation_contexts {
        let id = proposed.id;
        if results.iter().any(|result| result.id == id) {
            continue;
        }
        // An ID that stands for two things would leave open in which transfer syntax a data set is.
        let ambiguous = request.presentation_contexts.iter().any(|other| other.id == id && other != proposed);
        let agreed = match agree(proposed, &roles, &config.private_sop_classes) {
            // Even IDs are not to be used (PS3.8 section 9.3.2.2).
            _ if ambiguous || id % 2 == 0 => Err(PresentationContextResultReason::NoReason),
            agreed => agreed,
        };
        let (reason, transfer_syntax) = match agreed {
            Ok(context) => {
                let uid = context.transfer_syntax.uid();
                contexts.insert(id, context);
                (PresentationContextResultReason::Acceptance, uid)
            }
            // Not significant in a refusal (PS3.8 table 9-18), but a field that has to be there.
            Err(reason) => (reason, TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN),
        };
        results.push(PresentationContextResult { id, reason, transfer_syntax: transfer_syntax.to_owned() });
    }
    let mut user_variables = user_variables(config.max_pdu_length);
    user_variables.extend(answers(&request.user_variables, &roles, &contexts));
    let accepted = AssociationAC {
        protocol_version: PROTOCOL_VERSION,
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        called_ae_title: request.called_ae_title,
        calling_ae_title: request.calling_ae_title,
        presentation_contexts: results,
        user_variables,
    };
    (accepted, contexts)
}

/// The roles that are asked for, by SOP class (PS3.7 D.3.3.4); of two items for one class the first counts.
type Roles = BTreeMap<String, RequestorRoles>;

/// The SCP/SCU role selection items among what a side said about itself.
pub(crate) fn role_selections(variables: &[UserVariableItem]) -> Roles {
    let mut roles = Roles::new();
    for item in variables {
        if let UserVariableItem::ScuScpRoleSelectionSubItem(uid, asked) = item {
            roles.entry(unpadded(uid)).or_insert(*asked);
        }
    }
    roles
}

/// What is answered to the items about single SOP classes, where a context for the class is accepted. The other items are
/// not answered, which says:
/// - Asynchronous Operations Window: one operation at a time (PS3.7 D.3.3.3).
/// - User Identity: nobody looked at it (PS3.7 D.3.3.7); a positive response would say that somebody did.
fn answers(asked: &[UserVariableItem], roles: &Roles, contexts: &Contexts) -> Vec<UserVariableItem> {
    /// Storage (PS3.4 table B.3-2): level 2, all attributes are kept; signatures stay valid, because every bit does;
    /// nothing is coerced.
    const FULL_STORAGE: [u8; 6] = [2, 0, 3, 0, 0, 0];
    let of_class = |uid: &str| contexts.values().find(|context| context.abstract_syntax == uid);
    let mut answers = Vec::new();
    // The requestor keeps the role of user, and nobody but us is provider here.
    for (uid, _) in roles.iter().filter(|(uid, _)| of_class(uid).is_some()) {
        let answered = RequestorRoles { scu: true, scp: false };
        answers.push(UserVariableItem::ScuScpRoleSelectionSubItem(uid.clone(), answered));
    }
    let mut answered = BTreeSet::new();
    for item in asked {
        if let UserVariableItem::SopClassExtendedNegotiationSubItem(uid, _) = item
            && of_class(&unpadded(uid)).is_some_and(|context| Service::of_context(context) == Service::Storage)
            && answered.insert(unpadded(uid))
        {
            let information = FULL_STORAGE.to_vec();
            answers.push(UserVariableItem::SopClassExtendedNegotiationSubItem(unpadded(uid), information));
        }
    }
    answers
}

fn unpadded(uid: &str) -> String {
    uid.trim_end_matches(['\0', ' ']).to_owned()
}

fn agree(
    proposed: &PresentationContextProposed,
    roles: &Roles,
    private: &[SopClassPattern],
) -> Result<Context, PresentationContextResultReason> {
    let abstract_syntax = unpadded(&proposed.abstract_syntax);
    let service = Service::of_class(&abstract_syntax, private)
        .ok_or(PresentationContextResultReason::AbstractSyntaxNotSupported)?;
    if roles.get(&abstract_syntax).is_some_and(|asked| !asked.scu) {
        // Who does not want to be the user leaves nothing that we could be provider of.
        return Err(PresentationContextResultReason::UserRejection);
    }
    let known = proposed.transfer_syntaxes.iter().filter_map(|uid| TransferSyntax::from_uid(uid).ok());
    let transfer_syntax =
        choose(known, service).ok_or(PresentationContextResultReason::TransferSyntaxesNotSupported)?;
    Ok(Context { abstract_syntax, transfer_syntax })
}

/// Chooses among the transfer syntaxes of one context. Where a native one is offered it is taken: the head of a list does
/// not say what the sender has, a sender that lists a native one can send it (PS3.5 section 10.1 lets it leave native ones
/// out where all it has is compressed with loss), and DCMTK and Orthanc choose so too. Without a native one, the first that
/// loses nothing is taken, and one that may lose something only where nothing else is offered.
fn choose(proposed: impl Iterator<Item = TransferSyntax>, service: Service) -> Option<TransferSyntax> {
    /// The easiest to read first.
    const NATIVE: [&str; 4] = [
        TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN,
        TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN,
        TransferSyntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        TransferSyntax::EXPLICIT_VR_BIG_ENDIAN,
    ];
    let can_be_taken = |syntax: &TransferSyntax| match service {
        Service::Verification => true,
        Service::Storage => !refers_elsewhere(syntax),
        // There are no pixels to encapsulate, and little to deflate.
        Service::StorageCommitment => !syntax.encapsulated() && !syntax.deflated(),
    };
    let rank = |syntax: &TransferSyntax| match NATIVE.iter().position(|uid| *uid == syntax.uid()) {
        Some(position) => position,
        None if is_lossless(syntax) => NATIVE.len(),
        None => NATIVE.len() + 1,
    };
    // Of several of one rank the sender's first.
    proposed.filter(can_be_taken).min_by_key(rank)
}

/// Whether data sets in it hold a reference in place of the pixels, or none at all: JPIP (PS3.5 A.6) and real-time video
/// (PS3.22). Nobody could keep these.
fn refers_elsewhere(syntax: &TransferSyntax) -> bool {
    const REFERRING: [&str; 7] = [
        uids::JPIP_REFERENCED,
        uids::JPIP_REFERENCED_DEFLATE,
        uids::JPIPHTJ2K_REFERENCED,
        uids::JPIPHTJ2K_REFERENCED_DEFLATE,
        uids::SMPTEST211020_UNCOMPRESSED_PROGRESSIVE_ACTIVE_VIDEO,
        uids::SMPTEST211020_UNCOMPRESSED_INTERLACED_ACTIVE_VIDEO,
        uids::SMPTEST211030PCM_DIGITAL_AUDIO,
    ];
    REFERRING.contains(&syntax.uid())
}

/// Whether an encapsulated transfer syntax is one that every pixel survives.
#[allow(deprecated, reason = "what is retired is still sent")]
fn is_lossless(syntax: &TransferSyntax) -> bool {
    const LOSSLESS: [&str; 14] = [
        uids::ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN,
        uids::JPEG_LOSSLESS,
        uids::JPEG_LOSSLESS_NON_HIERARCHICAL15,
        uids::JPEG_LOSSLESS_HIERARCHICAL28,
        uids::JPEG_LOSSLESS_HIERARCHICAL29,
        uids::JPEG_LOSSLESS_SV1,
        uids::JPEGLS_LOSSLESS,
        uids::JPEG2000_LOSSLESS,
        uids::JPEG2000MC_LOSSLESS,
        uids::HTJ2K_LOSSLESS,
        uids::HTJ2K_LOSSLESS_RPCL,
        uids::JPEGXL_LOSSLESS,
        uids::RLE_LOSSLESS,
        uids::DEFLATED_IMAGE_FRAME_COMPRESSION,
    ];
    LOSSLESS.contains(&syntax.uid())
}

/// Private SOP classes that are taken: a UID, or how UIDs begin and `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SopClassPattern(String);

/// The text is no UID, and no beginning of one followed by `*`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a SOP class UID such as \"1.2.840.113619.4.30\", the beginning of some as \"1.2.840.113619.*\", or \"*\""
)]
pub struct SopClassPatternError;

impl SopClassPattern {
    /// Every private SOP class.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    fn matches(&self, uid: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => uid.starts_with(beginning),
            None => uid == self.0,
        }
    }
}

impl FromStr for SopClassPattern {
    type Err = SopClassPatternError;

    fn from_str(text: &str) -> Result<Self, SopClassPatternError> {
        let written = match text.strip_suffix('*') {
            Some(beginning) => beginning.strip_suffix('.').unwrap_or(beginning),
            None => text,
        };
        let any = text == "*";
        if any || written.parse::<Uid>().is_ok() { Ok(Self(text.to_owned())) } else { Err(SopClassPatternError) }
    }
}

/// Whether a SOP class is one of the storage service: the standard's, those of editions to come (they are numbered under
/// the same root), and the private ones that fit one of `private` (PS3.4 annex B.5).
pub fn is_storage_class(uid: &str, private: &[SopClassPattern]) -> bool {
    const STANDARD: &str = "1.2.840.10008.";
    const COMPOSITE: &str = "1.2.840.10008.5.1.4.1.1.";
    const ELSEWHERE: [&str; 2] =
        [uids::RT_BEAMS_DELIVERY_INSTRUCTION_STORAGE, uids::RT_BRACHY_APPLICATION_SETUP_DELIVERY_INSTRUCTION_STORAGE];
    if uid.starts_with(COMPOSITE) {
        // A few queries share the root.
        return StandardSopClassDictionary.by_uid(uid).is_none_or(|class| class.name.contains("Storage"));
    }
    if uid.starts_with(STANDARD) {
        return ELSEWHERE.contains(&uid);
    }
    uid.parse::<Uid>().is_ok() && private.iter().any(|pattern| pattern.matches(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_classes_are_told_from_others() {
        let any = [SopClassPattern::any()];
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
        assert_eq!(storage.iter().find(|uid| !is_storage_class(uid, &any)), None);
        assert_eq!(others.iter().find(|uid| is_storage_class(uid, &any)), None);
    }

    #[test]
    fn private_classes_are_taken_as_configured() {
        let check = |patterns: &[&str], uid: &str| {
            let patterns: Vec<SopClassPattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
            is_storage_class(uid, &patterns)
        };
        assert!(check(&["1.2.840.113619.4.30"], "1.2.840.113619.4.30"));
        assert!(check(&["1.3.12.2.1107.*", "1.2.840.113619.*"], "1.2.840.113619.4.30"));
        assert!(check(&[], uids::CT_IMAGE_STORAGE));
        assert!(!check(&[], "1.2.840.113619.4.30"));
        assert!(!check(&["1.2.840.113619.4.3"], "1.2.840.113619.4.30"));
        assert!(!check(&["1.2.840.113619.*"], "1.2.840.1136191.4"));
        // What the standard defines is not for a pattern to decide.
        assert!(!check(&["*"], uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND));
        for bad in ["", "GE", "1.2.", "1.*.3", "**", "1..*"] {
            assert_eq!(bad.parse::<SopClassPattern>(), Err(SopClassPatternError), "{bad:?}");
        }
    }

    /// A request with these contexts (ID, abstract syntax, transfer syntaxes) and items, and the answer to it.
    fn answered(proposed: &[(u8, &str, &[&str])], user_variables: Vec<UserVariableItem>) -> (AssociationAC, Contexts) {
        let proposed = proposed.iter().map(|&(id, abstract_syntax, transfer_syntaxes)| PresentationContextProposed {
            id,
            abstract_syntax: abstract_syntax.to_owned(),
            transfer_syntaxes: transfer_syntaxes.iter().map(|&uid| uid.to_owned()).collect(),
        });
        let request = AssociationRQ {
            protocol_version: 1,
            calling_ae_title: "A".to_owned(),
            called_ae_title: "B".to_owned(),
            application_context_name: APPLICATION_CONTEXT.to_owned(),
            presentation_contexts: proposed.collect(),
            user_variables,
        };
        accept(request, &ServerConfig::new("PREREAD".parse().unwrap()))
    }

    #[test]
    fn contexts_are_accepted_one_by_one() {
        use PresentationContextResultReason::{
            AbstractSyntaxNotSupported, Acceptance, NoReason, TransferSyntaxesNotSupported,
        };
        let implicit: &[&str] = &["1.2.840.10008.1.2"];
        let (answer, contexts) = answered(
            &[
                (1, uids::VERIFICATION, implicit),
                (3, uids::CT_IMAGE_STORAGE, &["1.2.3.4", "1.2.840.10008.1.2.4.90\0", "1.2.840.10008.1.2"]),
                (5, uids::CT_IMAGE_STORAGE, &["1.2.3.4"]),
                (7, uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND, implicit),
                (9, uids::CT_IMAGE_STORAGE, &[]),
                (10, uids::CT_IMAGE_STORAGE, implicit),
                (0, uids::CT_IMAGE_STORAGE, implicit),
                (11, uids::STORAGE_COMMITMENT_PUSH_MODEL, &["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"]),
                (13, uids::STORAGE_COMMITMENT_PUSH_MODEL, &["1.2.840.10008.1.2.4.90"]),
                // The same twice is one; two that differ are none.
                (255, uids::CT_IMAGE_STORAGE, implicit),
                (255, uids::CT_IMAGE_STORAGE, implicit),
                (253, uids::CT_IMAGE_STORAGE, implicit),
                (253, uids::CT_IMAGE_STORAGE, &["1.2.840.10008.1.2.1"]),
            ],
            vec![],
        );
        let reasons: Vec<_> =
            answer.presentation_contexts.into_iter().map(|result| (result.id, result.reason)).collect();
        let expected = [
            (1, Acceptance),
            (3, Acceptance),
            (5, TransferSyntaxesNotSupported),
            (7, AbstractSyntaxNotSupported),
            (9, TransferSyntaxesNotSupported),
            (10, NoReason),
            (0, NoReason),
            (11, Acceptance),
            (13, TransferSyntaxesNotSupported),
            (255, Acceptance),
            (253, NoReason),
        ];
        assert_eq!(reasons, expected);
        assert_eq!(contexts.keys().copied().collect::<Vec<_>>(), [1, 3, 11, 255]);
        assert_eq!(contexts[&3].transfer_syntax.uid(), "1.2.840.10008.1.2");
    }

    #[test]
    fn the_most_contexts_are_taken() {
        let proposed: Vec<(u8, &str, &[&str])> =
            (1..=255).step_by(2).map(|id| (id, uids::CT_IMAGE_STORAGE, &["1.2.840.10008.1.2.1"][..])).collect();
        assert_eq!(answered(&proposed, vec![]).1.len(), 128);
    }

    #[test]
    fn of_several_transfer_syntaxes_a_native_one_is_taken_and_a_lossy_one_last() {
        let check = |proposed: &[&str], chosen: Option<&str>| {
            let whole = |suffix: &str| format!("1.2.840.10008.1.2{suffix}");
            let proposed: Vec<String> = proposed.iter().map(|suffix| whole(suffix)).collect();
            let proposed: Vec<&str> = proposed.iter().map(String::as_str).collect();
            let (_, contexts) = answered(&[(1, uids::CT_IMAGE_STORAGE, &proposed)], vec![]);
            let found = contexts.get(&1).map(|context| context.transfer_syntax.uid().to_owned());
            assert_eq!(found, chosen.map(whole), "{proposed:?}");
        };
        let (implicit, explicit, big_endian, deflated) = ("", ".1", ".2", ".1.99");
        let (baseline, extended, lossless, sv1) = (".4.50", ".4.51", ".4.57", ".4.70");
        let (jls, near, j2k_lossless, j2k, rle, h264) = (".4.80", ".4.81", ".4.90", ".4.91", ".5", ".4.102");
        check(&[implicit, explicit], Some(explicit));
        check(&[implicit, explicit, deflated, big_endian], Some(explicit));
        check(&[big_endian, implicit], Some(implicit));
        check(&[big_endian, deflated], Some(deflated));
        check(&[big_endian], Some(big_endian));
        check(&[deflated], Some(deflated));
        // What DCMTK's storescu +C proposes in one context with -xs, -xy, -xx, -xr, -xv, -xw, -xt, -xu and -xd.
        for first in [sv1, baseline, extended, rle, j2k_lossless, j2k, jls, near, deflated] {
            check(&[first, explicit, big_endian, implicit], Some(explicit));
            check(&[first, implicit], Some(implicit));
        }
        // What the sender can do, native first (Horos, DicomObjects), and in its midst.
        check(&[explicit, implicit, baseline], Some(explicit));
        check(&[implicit, baseline, j2k], Some(implicit));
        check(&[j2k_lossless, explicit, j2k], Some(explicit));
        check(&[h264, big_endian], Some(big_endian));
        // Nothing native: the sender's order among those that lose nothing, whatever stands before them.
        check(&[sv1, j2k_lossless], Some(sv1));
        check(&[j2k_lossless, rle, lossless], Some(j2k_lossless));
        check(&[baseline, j2k, jls, lossless], Some(jls));
        check(&[j2k, j2k_lossless], Some(j2k_lossless));
        // Nothing but lossy ones: what the sender has heads its list.
        check(&[extended, baseline], Some(extended));
        check(&[h264], Some(h264));
        // What does not bring its pixels.
        check(&[".4.94"], None);
        check(&[".4.95", ".4.204", ".4.205", ".7.1"], None);
        check(&[".4.94", explicit], Some(explicit));
        check(&[".4.94", j2k], Some(j2k));
    }

    #[test]
    fn every_transfer_syntax_that_brings_its_pixels_is_taken() {
        let taken =
            |syntax: &TransferSyntax| !answered(&[(1, uids::CT_IMAGE_STORAGE, &[syntax.uid()])], vec![]).1.is_empty();
        let refused: Vec<_> =
            TransferSyntax::all().filter(|syntax| !taken(syntax)).map(|syntax| syntax.uid()).collect();
        assert!(refused.iter().all(|uid| uid.starts_with("1.2.840.10008.1.2.7.") || {
            [".94", ".95", ".204", ".205"].iter().any(|end| uid.ends_with(end))
        }));
        assert_eq!(refused.len(), 7, "{refused:?}");
    }

    #[test]
    fn only_what_is_asked_about_accepted_classes_is_answered() {
        use UserVariableItem::{ScuScpRoleSelectionSubItem as Role, SopClassExtendedNegotiationSubItem as Extended};
        let role = |uid: &str, scu, scp| Role(uid.to_owned(), RequestorRoles { scu, scp });
        let extended = |uid: &str, information: &[u8]| Extended(uid.to_owned(), information.to_vec());
        let explicit: &[&str] = &["1.2.840.10008.1.2.1"];
        let (ct, mr, commitment) =
            (uids::CT_IMAGE_STORAGE, uids::MR_IMAGE_STORAGE, uids::STORAGE_COMMITMENT_PUSH_MODEL);
        let (answer, contexts) = answered(
            &[(1, ct, explicit), (3, mr, explicit), (5, commitment, explicit), (7, uids::VERIFICATION, explicit)],
            vec![
                role(ct, true, true),
                role(ct, false, true),
                role(mr, false, true),
                role(commitment, true, false),
                role(uids::SPECTACLE_PRESCRIPTION_REPORT_STORAGE, true, true),
                extended(ct, &[3, 0, 0, 0, 0, 0]),
                extended(ct, &[]),
                extended(mr, &[3, 0, 0, 0, 0, 0]),
                extended(uids::VERIFICATION, &[1]),
                UserVariableItem::Unknown(0x53, vec![0, 5, 0, 5]),
                UserVariableItem::Unknown(0xF0, vec![1, 2, 3]),
            ],
        );
        let expected = [role(commitment, true, false), role(ct, true, false), extended(ct, &[2, 0, 3, 0, 0, 0])];
        assert_eq!(answer.user_variables[3..], expected);
        assert_eq!(contexts.keys().copied().collect::<Vec<_>>(), [1, 5, 7]);
        assert_eq!(answer.presentation_contexts[1].reason, PresentationContextResultReason::UserRejection);
    }
}
