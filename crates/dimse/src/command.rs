//! Command sets (PS3.7 section 6.3 and annex E): group 0000 in Implicit VR Little Endian, flat by definition, so that a
//! loop reads it.

use std::collections::BTreeMap;

use dataset::{Phi, Uid};

/// Element numbers of group 0000 (PS3.7 table E.1-1).
pub(crate) mod element {
    pub(crate) const GROUP_LENGTH: u16 = 0x0000;
    pub(crate) const AFFECTED_SOP_CLASS_UID: u16 = 0x0002;
    pub(crate) const REQUESTED_SOP_CLASS_UID: u16 = 0x0003;
    pub(crate) const COMMAND_FIELD: u16 = 0x0100;
    pub(crate) const MESSAGE_ID: u16 = 0x0110;
    pub(crate) const MESSAGE_ID_BEING_RESPONDED_TO: u16 = 0x0120;
    pub(crate) const PRIORITY: u16 = 0x0700;
    pub(crate) const DATA_SET_TYPE: u16 = 0x0800;
    pub(crate) const STATUS: u16 = 0x0900;
    pub(crate) const ERROR_COMMENT: u16 = 0x0902;
    pub(crate) const AFFECTED_SOP_INSTANCE_UID: u16 = 0x1000;
    pub(crate) const REQUESTED_SOP_INSTANCE_UID: u16 = 0x1001;
    pub(crate) const EVENT_TYPE_ID: u16 = 0x1002;
    pub(crate) const ACTION_TYPE_ID: u16 = 0x1008;
}

/// Values of Command Field (0000,0100) (PS3.7 table E.1-1).
pub(crate) mod field {
    pub(crate) const C_STORE_RQ: u16 = 0x0001;
    pub(crate) const C_STORE_RSP: u16 = 0x8001;
    pub(crate) const C_ECHO_RQ: u16 = 0x0030;
    pub(crate) const C_ECHO_RSP: u16 = 0x8030;
    pub(crate) const C_CANCEL_RQ: u16 = 0x0FFF;
    pub(crate) const N_EVENT_REPORT_RQ: u16 = 0x0100;
    pub(crate) const N_EVENT_REPORT_RSP: u16 = 0x8100;
    pub(crate) const N_ACTION_RQ: u16 = 0x0130;
    /// What makes a response of a request.
    pub(crate) const RESPONSE: u16 = 0x8000;
}

/// Values of Status (0000,0900) (PS3.7 annex C, PS3.4 table B.2-1).
pub(crate) mod status {
    pub(crate) const SUCCESS: u16 = 0x0000;
    pub(crate) const PROCESSING_FAILURE: u16 = 0x0110;
    pub(crate) const NO_SUCH_SOP_INSTANCE: u16 = 0x0112;
    pub(crate) const INVALID_ARGUMENT_VALUE: u16 = 0x0115;
    pub(crate) const INVALID_SOP_INSTANCE: u16 = 0x0117;
    pub(crate) const NO_SUCH_SOP_CLASS: u16 = 0x0118;
    pub(crate) const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;
    pub(crate) const NO_SUCH_ACTION: u16 = 0x0123;
    pub(crate) const UNRECOGNIZED_OPERATION: u16 = 0x0211;
    pub(crate) const RESOURCE_LIMITATION: u16 = 0x0213;
    pub(crate) const OUT_OF_RESOURCES: u16 = 0xA700;
    pub(crate) const DATA_SET_DOES_NOT_MATCH: u16 = 0xA900;
    pub(crate) const CANNOT_UNDERSTAND: u16 = 0xC000;
}

/// "No data set follows", the one such value of Command Data Set Type (0000,0800).
const NO_DATA_SET: u16 = 0x0101;
/// Any other value says that one does.
const DATA_SET: u16 = 0x0000;

/// A command, request or response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CommandSet {
    elements: BTreeMap<u16, Vec<u8>>,
}

impl CommandSet {
    /// A request, or with [`Self::answering`] a response.
    pub(crate) fn new(command_field: u16) -> Self {
        Self::default()
            .with_number(element::COMMAND_FIELD, command_field)
            .with_number(element::DATA_SET_TYPE, NO_DATA_SET)
    }

    /// The response to `request` (PS3.7 section 9.3): same class and instance, its message ID, the status.
    ///
    /// `None` for what has no message ID and can thus not be answered.
    pub(crate) fn answering(request: &Self, status: u16) -> Option<Self> {
        let mut response = Self::new(request.command_field()? | field::RESPONSE)
            .with_number(element::MESSAGE_ID_BEING_RESPONDED_TO, request.number(element::MESSAGE_ID)?)
            .with_number(element::STATUS, status);
        // DIMSE-N requests name the Requested SOP Class and Instance, and their responses the same as Affected.
        let copies = [
            (element::AFFECTED_SOP_CLASS_UID, [element::AFFECTED_SOP_CLASS_UID, element::REQUESTED_SOP_CLASS_UID]),
            (
                element::AFFECTED_SOP_INSTANCE_UID,
                [element::AFFECTED_SOP_INSTANCE_UID, element::REQUESTED_SOP_INSTANCE_UID],
            ),
            (element::ACTION_TYPE_ID, [element::ACTION_TYPE_ID; 2]),
        ];
        for (number, sources) in copies {
            let value = sources.iter().find_map(|source| request.elements.get(source));
            response.elements.extend(value.map(|value| (number, value.clone())));
        }
        Some(response)
    }

    pub(crate) fn with_number(mut self, number: u16, value: u16) -> Self {
        self.elements.insert(number, value.to_le_bytes().to_vec());
        self
    }

    pub(crate) fn with_uid(mut self, number: u16, uid: &str) -> Self {
        let mut value = uid.as_bytes().to_vec();
        value.resize(value.len().next_multiple_of(2), 0);
        self.elements.insert(number, value);
        self
    }

    /// Sets Error Comment (0000,0902), an LO: at most 64 characters, no backslash.
    pub(crate) fn with_comment(mut self, comment: &str) -> Self {
        let plain = |byte: u8| if matches!(byte, b' '..=b'~') && byte != b'\\' { byte } else { b'?' };
        let mut value: Vec<u8> = comment.bytes().take(64).map(plain).collect();
        value.resize(value.len().next_multiple_of(2), b' ');
        self.elements.insert(element::ERROR_COMMENT, value);
        self
    }

    /// Says that a data set follows.
    pub(crate) fn followed_by_data_set(self) -> Self {
        self.with_number(element::DATA_SET_TYPE, DATA_SET)
    }

    pub(crate) fn number(&self, number: u16) -> Option<u16> {
        match self.elements.get(&number)?.as_slice() {
            &[low, high] => Some(u16::from_le_bytes([low, high])),
            _ => None,
        }
    }

    pub(crate) fn uid(&self, number: u16) -> Option<Uid> {
        Uid::from_value(self.elements.get(&number)?).ok()
    }

    /// Error Comment (0000,0902), safe to print. It is the peer's own text: some name the patient in it.
    pub(crate) fn comment(&self) -> Option<Phi<String>> {
        let value = String::from_utf8_lossy(self.elements.get(&element::ERROR_COMMENT)?);
        // Neither controls nor what changes the direction of text or has no width.
        let hidden = |c: char| matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        let text: String = value.chars().map(|c| if c.is_control() || hidden(c) { ' ' } else { c }).collect();
        let words: Vec<&str> = text.split_whitespace().collect();
        let text: String = words.join(" ").chars().take(64).collect();
        (!text.is_empty()).then(|| Phi::new(text))
    }

    pub(crate) fn command_field(&self) -> Option<u16> {
        self.number(element::COMMAND_FIELD)
    }

    pub(crate) fn has_data_set(&self) -> bool {
        self.number(element::DATA_SET_TYPE).is_some_and(|kind| kind != NO_DATA_SET)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut group = Vec::with_capacity(256);
        for (&number, value) in self.elements.iter().filter(|(number, _)| **number != element::GROUP_LENGTH) {
            append(&mut group, number, value);
        }
        let mut bytes = Vec::with_capacity(group.len() + 12);
        append(&mut bytes, element::GROUP_LENGTH, &u32::try_from(group.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.append(&mut group);
        bytes
    }

    /// Reads a command set. `None` when it is none: cut short, or with an element of another group. Values of odd length
    /// are taken as they are, and zeros behind the last element for padding.
    pub(crate) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut elements = BTreeMap::new();
        let padding = |bytes: &[u8]| bytes.len() < 8 && bytes.iter().all(|&byte| byte == 0);
        while !padding(bytes) {
            let (head, rest) = bytes.split_first_chunk::<8>()?;
            let [0, 0, low, high, a, b, c, d] = *head else { return None };
            let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
            let (value, rest) = rest.split_at_checked(length)?;
            elements.insert(u16::from_le_bytes([low, high]), value.to_vec());
            bytes = rest;
        }
        Some(Self { elements })
    }
}

fn append(to: &mut Vec<u8>, number: u16, value: &[u8]) {
    // A value that was copied from a request may be odd.
    let length = value.len().next_multiple_of(2);
    to.extend_from_slice(&[0, 0]);
    to.extend_from_slice(&number.to_le_bytes());
    to.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    to.extend_from_slice(value);
    to.resize(to.len() + length - value.len(), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_starts_with_its_length() {
        let request = CommandSet::new(field::C_STORE_RQ)
            .with_number(element::MESSAGE_ID, 7)
            .with_uid(element::AFFECTED_SOP_CLASS_UID, "1.2.840.10008.1.1")
            .with_uid(element::AFFECTED_SOP_INSTANCE_UID, "1.2.3")
            .followed_by_data_set();
        let bytes = request.to_bytes();
        assert_eq!(bytes[..8], [0, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(usize::from(bytes[8]), bytes.len() - 12);
        let read = CommandSet::parse(&bytes).unwrap();
        assert_eq!(read.command_field(), Some(field::C_STORE_RQ));
        assert_eq!(read.uid(element::AFFECTED_SOP_INSTANCE_UID).unwrap().as_str(), "1.2.3");
        assert!(read.has_data_set());

        let response = CommandSet::answering(&read, status::OUT_OF_RESOURCES).unwrap();
        assert_eq!(response.command_field(), Some(field::C_STORE_RSP));
        assert_eq!(response.number(element::MESSAGE_ID_BEING_RESPONDED_TO), Some(7));
        assert_eq!(response.uid(element::AFFECTED_SOP_CLASS_UID).unwrap().as_str(), "1.2.840.10008.1.1");
        assert!(!response.has_data_set());
    }

    #[test]
    fn odd_values_and_padding_are_read_and_answered_evenly() {
        let mut bytes = Vec::new();
        for (number, value) in [(0x0100_u16, &[0x30, 1][..]), (0x0110, &[9, 0]), (0x1001, b"1.2"), (0x1008, &[1, 0])] {
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(value);
        }
        bytes.push(0);
        let read = CommandSet::parse(&bytes).unwrap();
        assert_eq!(read.uid(element::REQUESTED_SOP_INSTANCE_UID).unwrap().as_str(), "1.2");
        let response = CommandSet::answering(&read, status::SUCCESS).unwrap().to_bytes();
        assert_eq!(response.len() % 2, 0);
        let response = CommandSet::parse(&response).unwrap();
        assert_eq!(response.uid(element::AFFECTED_SOP_INSTANCE_UID).unwrap().as_str(), "1.2");
        assert_eq!(response.number(element::ACTION_TYPE_ID), Some(1));
    }

    #[test]
    fn what_is_no_command_set_is_refused() {
        let cut = &CommandSet::new(field::C_ECHO_RQ).to_bytes()[..20];
        for bad in [cut, &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff], &[8, 0, 0, 0, 0, 0, 0, 0], b"GET / HTTP/1.1"] {
            assert_eq!(CommandSet::parse(bad), None);
        }
        assert_eq!(CommandSet::answering(&CommandSet::new(field::C_ECHO_RQ), 0), None);
    }

    #[test]
    fn comments_fit_their_value_representation() {
        let comment = CommandSet::default().with_comment(&"a\\b\n".repeat(40)).comment().unwrap();
        assert_eq!(*comment.expose(), "a?b?".repeat(16));
    }

    #[test]
    fn a_peers_comment_is_safe_to_print_and_never_printed_by_accident() {
        let check = |raw: &[u8], expected: Option<&str>| {
            let elements = BTreeMap::from([(element::ERROR_COMMENT, raw.to_vec())]);
            let comment = CommandSet { elements }.comment();
            assert_eq!(comment.as_ref().map(|text| text.expose().as_str()), expected, "{raw:?}");
            assert!(!format!("{comment:?}").contains("DOE"), "{raw:?}");
        };
        check(b"unknown patient DOE^JOHN ", Some("unknown patient DOE^JOHN"));
        check(b"\x1b[2J\x1b]0;own\x07\n{\"level\":1} DOE\0", Some("[2J ]0;own {\"level\":1} DOE"));
        check("\u{202e}DOE\u{200b}\u{85}".as_bytes(), Some("DOE"));
        check(b"\xff\xfe", Some("\u{fffd}\u{fffd}"));
        check(b" \0\n", None);
        check("DOE ".repeat(40).as_bytes(), Some("DOE DOE DOE DOE DOE DOE DOE DOE DOE DOE DOE DOE DOE DOE DOE DOE "));
    }
}
