//! What an answer to C-STORE means for a delivery: whether it is done, and whether trying again can change it.

use dimse::StoreStatus;
use spool::ObjectKind;

/// What to do about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The destination has it.
    Delivered,
    /// It has it by an earlier attempt of ours: our UIDs derive from what the object is, so that nothing else has them.
    AlreadyThere,
    /// It has it with a reservation of this status.
    WithWarning(u16),
    /// It takes nothing of this class.
    ClassNotTaken,
    /// It does not want this object, and will not the next time: tried a few times, then a person must look.
    Refused,
    /// It may want it later: tried as long as it takes.
    Later,
    /// The same, and it may have it already.
    MayBeThere,
    /// Nothing was tried.
    NotTried,
}

/// Reads an outcome (PS3.4 table B.2-1, PS3.7 annex C).
pub(super) fn of(status: &StoreStatus) -> Verdict {
    match status {
        StoreStatus::Success => Verdict::Delivered,
        StoreStatus::Warning(code) => Verdict::WithWarning(*code),
        StoreStatus::Failure { code: 0x0111, .. } => Verdict::AlreadyThere,
        StoreStatus::NotAccepted { .. } | StoreStatus::Failure { code: 0x0118 | 0x0122, .. } => Verdict::ClassNotTaken,
        StoreStatus::Failure { code: 0x0117 | 0x0119 | 0x0124 | 0xA900..=0xA9FF, .. } => Verdict::Refused,
        // Everything else may be a database that is restarted: archives answer 0110, A7xx, C0xx and codes of their own.
        StoreStatus::Failure { .. } => Verdict::Later,
        StoreStatus::Unanswered(_) => Verdict::MayBeThere,
        StoreStatus::NotSent(_) => Verdict::NotTried,
        StoreStatus::Unreadable(_) => Verdict::Refused,
    }
}

/// The same document as an SOP class that more archives take: the text report is Basic Text SR everywhere, and a
/// measurement report has no coordinates in the patient, so that it is the same as Comprehensive SR.
pub(super) fn in_another_class(kind: ObjectKind) -> Option<ObjectKind> {
    match kind {
        ObjectKind::EnhancedTextSr => Some(ObjectKind::TextSr),
        ObjectKind::MeasurementsSr => Some(ObjectKind::ComprehensiveMeasurementsSr),
        _ => None,
    }
}

/// What a person can do about a refusal, behind what was said.
pub(super) fn advice(status: &StoreStatus, kind: ObjectKind, destination: &str) -> String {
    let name = kind.as_str();
    match status {
        StoreStatus::NotAccepted { .. } | StoreStatus::Failure { code: 0x0118 | 0x0122, .. } => format!(
            "allow that SOP class there, or take \"{name}\" out of `objects` of [[destination]] \"{destination}\""
        ),
        StoreStatus::Failure { code: 0x0124, .. } => {
            "allow our AE title to store there, then `preread queue retry`".to_owned()
        }
        StoreStatus::Unreadable(_) => "the report's file is damaged: `preread doctor --scrub`".to_owned(),
        _ => format!(
            "ask for its log of this object, or take \"{name}\" out of `objects` of [[destination]] \"{destination}\"; \
             `preread queue retry` sends it again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_repetition_cannot_change_is_given_up() {
        let failure = |code| StoreStatus::Failure { code, comment: None };
        for code in [0x0105, 0x0110, 0x0112, 0x0210, 0x0211, 0x0213, 0xA700, 0xA7FF, 0xA800, 0xC000, 0xC0DE, 0xFE00] {
            assert_eq!(of(&failure(code)), Verdict::Later, "{code:04x}");
        }
        for code in [0x0117, 0x0119, 0x0124, 0xA900, 0xA9FF] {
            assert_eq!(of(&failure(code)), Verdict::Refused, "{code:04x}");
        }
        assert_eq!(of(&failure(0x0111)), Verdict::AlreadyThere);
        assert_eq!(of(&failure(0x0122)), Verdict::ClassNotTaken);
        assert_eq!(of(&StoreStatus::Unanswered(String::new())), Verdict::MayBeThere);
        assert_eq!(of(&StoreStatus::NotSent(String::new())), Verdict::NotTried);
    }
}
