//! What a status of a C-STORE response means, in our own words: a peer's Error Comment is its own, and may name a patient.

/// The statuses that have a meaning (PS3.7 annex C, PS3.4 table B.2-1).
const MEANINGS: &[(u16, &str)] = &[
    (0x0105, "no such attribute"),
    (0x0106, "invalid attribute value"),
    (0x0110, "processing failure"),
    (0x0111, "duplicate SOP instance"),
    (0x0112, "no such SOP instance"),
    (0x0115, "invalid argument value"),
    (0x0117, "invalid SOP instance"),
    (0x0118, "no such SOP class"),
    (0x0119, "class and instance conflict"),
    (0x0120, "missing attribute"),
    (0x0121, "missing attribute value"),
    (0x0122, "SOP class not supported"),
    (0x0124, "not authorized"),
    (0x0210, "duplicate invocation"),
    (0x0211, "unrecognized operation"),
    (0x0212, "mistyped argument"),
    (0x0213, "resource limitation"),
];

/// The meaning of a failure status (0000,0900) of a C-STORE response (PS3.7 annex C, PS3.4 table B.2-1).
pub(crate) fn of_failure(status: u16) -> &'static str {
    match status {
        0xA700..=0xA7FF => "out of resources",
        0xA900..=0xA9FF => "data set does not match SOP class",
        0xC000..=0xCFFF => "cannot understand",
        0xFE00 => "cancelled",
        _ => MEANINGS.iter().find(|(code, _)| *code == status).map_or("a failure of its own", |(_, meaning)| meaning),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_meaning() {
        let check = |status, meaning| assert_eq!(of_failure(status), meaning, "{status:04x}");
        check(0x0110, "processing failure");
        check(0x0124, "not authorized");
        check(0xA700, "out of resources");
        check(0xA9FF, "data set does not match SOP class");
        check(0xC0DE, "cannot understand");
        check(0xFFFF, "a failure of its own");
        assert!(MEANINGS.is_sorted_by_key(|(code, _)| *code));
    }
}
