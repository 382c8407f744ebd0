//! What Specific Character Set declares, and how values are read by it.

use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, ISO_2022_JP, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5,
    ISO_8859_6, ISO_8859_7, ISO_8859_8, SHIFT_JIS, UTF_8, WINDOWS_874, WINDOWS_1252, WINDOWS_1254,
};

mod clean;

pub use clean::{Cleaned, Meaning};

/// What Specific Character Set (0008,0005) declares: how to turn a text value's bytes into text (PS3.3 C.12.1.1.2,
/// PS3.5 section 6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharacterSet {
    /// The defined terms, as declared; the first is the initial one.
    terms: Vec<String>,
}

/// The designations of ISO 2022 that DICOM uses (PS3.3 tables C.12-3 and C.12-4), as the bytes after ESC.
const DESIGNATIONS: &[(&[u8], Segment)] = &[
    (b"(B", Segment::Single("ISO_IR 6")),
    (b"(J", Segment::Single("ISO_IR 13")),
    (b")I", Segment::Single("ISO_IR 13")),
    (b"-A", Segment::Single("ISO_IR 100")),
    (b"-B", Segment::Single("ISO_IR 101")),
    (b"-C", Segment::Single("ISO_IR 109")),
    (b"-D", Segment::Single("ISO_IR 110")),
    (b"-L", Segment::Single("ISO_IR 144")),
    (b"-G", Segment::Single("ISO_IR 127")),
    (b"-F", Segment::Single("ISO_IR 126")),
    (b"-H", Segment::Single("ISO_IR 138")),
    (b"-M", Segment::Single("ISO_IR 148")),
    (b"-T", Segment::Single("ISO_IR 166")),
    (b"-b", Segment::Single("ISO_IR 203")),
    (b"$B", Segment::Jis0208),
    (b"$(D", Segment::Jis0212),
    (b"$)C", Segment::High(EUC_KR_SEGMENT)),
    (b"$)A", Segment::High(GBK_SEGMENT)),
];

/// Which double-byte set of the upper half is designated.
type HighSet = u8;
const EUC_KR_SEGMENT: HighSet = 0;
const GBK_SEGMENT: HighSet = 1;

/// How the bytes between two escape sequences are read.
#[derive(Clone, Copy)]
enum Segment {
    Single(&'static str),
    Jis0208,
    Jis0212,
    High(HighSet),
}

impl CharacterSet {
    /// The character set that a value of (0008,0005) declares; empty means the default repertoire, ISO IR 6.
    pub fn declared(value: &[u8]) -> Self {
        let text = String::from_utf8_lossy(value);
        let text = text.trim_matches(['\0', ' ']);
        let terms = if text.is_empty() { Vec::new() } else { text.split('\\').map(normal).collect() };
        Self { terms }
    }

    /// Specific Character Set (0008,0005) as an object has to state it that repeats this one's values: the defined terms,
    /// by their own spelling, of those that are known. Nothing when none is needed.
    pub fn terms(&self) -> Option<String> {
        let known: Vec<&str> = self.terms.iter().map(String::as_str).filter(|term| is_known(term)).collect();
        let [first, more @ ..] = known.as_slice() else { return None };
        if more.is_empty() {
            // The sets that are reached by escape sequences alone have no other name.
            let extended = matches!(*first, "ISO_IR 87" | "ISO_IR 159" | "ISO_IR 149" | "ISO_IR 58");
            return match *first {
                "" | "ISO_IR 6" => None,
                first if extended => Some(first.replace("ISO_IR", "ISO 2022 IR")),
                first => Some(first.to_owned()),
            };
        }
        Some(known.iter().map(|term| term.replace("ISO_IR", "ISO 2022 IR")).collect::<Vec<_>>().join("\\"))
    }

    /// Whether each declared term is a defined one.
    pub fn is_known(&self) -> bool {
        self.terms.iter().all(|term| is_known(term))
    }

    /// Decodes a value. What cannot be decoded becomes U+FFFD; nothing fails.
    pub fn decode(&self, bytes: &[u8]) -> String {
        if bytes.is_ascii() && !bytes.contains(&0x1b) {
            return bytes.iter().map(|&byte| char::from(byte)).collect();
        }
        let initial = self.terms.first().map_or("ISO_IR 6", String::as_str);
        if self.terms.len() < 2 && !initial.starts_with("ISO 2022") || !bytes.contains(&0x1b) {
            return decode_with(initial, bytes);
        }
        self.decode_iso_2022(initial, bytes)
    }

    /// Decodes a value, or says that it cannot be: a byte has no meaning in the set that is declared, the set is not known,
    /// or none is declared and the value is not ASCII. Nothing is guessed.
    pub fn decode_exactly(&self, bytes: &[u8]) -> Option<String> {
        let text = self.decode(bytes);
        if bytes.is_ascii() && !bytes.contains(&0x1b) {
            return Some(text);
        }
        let initial = self.terms.first().map_or("", String::as_str);
        let guessed = self.terms.len() < 2 && matches!(initial, "" | "ISO_IR 6");
        (self.is_known() && !guessed && !text.contains(['\u{fffd}', '\u{1b}'])).then_some(text)
    }

    /// The initial set holds until an escape sequence designates another, and again after each delimiter (PS3.5 6.1.2.5.3).
    fn decode_iso_2022(&self, initial: &str, bytes: &[u8]) -> String {
        let mut text = String::new();
        let mut segment: Option<Segment> = None;
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some((designation, next)) = rest.strip_prefix(b"\x1b").and_then(designation) {
                segment = Some(designation);
                rest = next;
                continue;
            }
            let end = segment_end(rest, segment);
            let (now, next) = rest.split_at(end);
            text.push_str(&match segment {
                None => decode_with(initial, now),
                Some(segment) => decode_segment(segment, now),
            });
            if next.first().is_some_and(|byte| is_delimiter(*byte)) {
                segment = None;
                text.push(char::from(next[0]));
                rest = &next[1..];
            } else {
                rest = next;
            }
        }
        text
    }
}

/// `ISO 2022 IR 100` and `ISO_IR 100` name the same repertoire; many senders also write spaces or hyphens elsewhere, or
/// small letters.
fn normal(term: &str) -> String {
    let compact: String = term.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_uppercase();
    let number = compact.strip_prefix("ISO2022IR").or_else(|| compact.strip_prefix("ISOIR"));
    match (number, compact.as_str()) {
        (Some(number), _) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("ISO_IR {number}")
        }
        (_, "" | "GB18030" | "GBK" | "BIG5") => compact,
        (_, "GB2312") => "GBK".to_owned(),
        _ => term.trim().to_owned(),
    }
}

/// The sets of which one byte is one character.
const SINGLE: &[&str] = &[
    "ISO_IR 100",
    "ISO_IR 101",
    "ISO_IR 109",
    "ISO_IR 110",
    "ISO_IR 144",
    "ISO_IR 127",
    "ISO_IR 126",
    "ISO_IR 138",
    "ISO_IR 148",
    "ISO_IR 166",
    "ISO_IR 203",
];

/// The other terms that are read.
const MORE: &[&str] = &[
    "",
    "ISO_IR 6",
    "ISO_IR 192",
    "ISO_IR 13",
    "ISO_IR 149",
    "ISO_IR 58",
    "ISO_IR 87",
    "ISO_IR 159",
    "GB18030",
    "GBK",
];

fn is_known(term: &str) -> bool {
    SINGLE.contains(&term) || MORE.contains(&term)
}

fn designation(after_escape: &[u8]) -> Option<(Segment, &[u8])> {
    DESIGNATIONS.iter().find_map(|(bytes, segment)| after_escape.strip_prefix(*bytes).map(|rest| (*segment, rest)))
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'\\' | b'^' | b'=' | b'\r' | b'\n' | 0x0c | b'\t')
}

/// Where the bytes that one designation governs end: at the next escape, or at a delimiter that is a character of its
/// own and not half of a double-byte one.
fn segment_end(bytes: &[u8], segment: Option<Segment>) -> usize {
    let double = matches!(segment, Some(Segment::Jis0208 | Segment::Jis0212));
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == 0x1b && at > 0 || !double && is_delimiter(byte) {
            return at;
        }
        at += if double && byte >= 0x21 { 2 } else { 1 };
    }
    bytes.len()
}

fn decode_segment(segment: Segment, bytes: &[u8]) -> String {
    match segment {
        Segment::Single(term) => decode_with(term, bytes),
        Segment::Jis0208 => decode_bytes(ISO_2022_JP, &[b"\x1b$B", bytes].concat()),
        Segment::Jis0212 => {
            // EUC-JP reaches JIS X 0212 by the single shift 0x8F and the high bit.
            let shifted: Vec<u8> = bytes
                .chunks(2)
                .flat_map(|pair| [0x8f].into_iter().chain(pair.iter().map(|byte| byte | 0x80)))
                .collect();
            decode_bytes(EUC_JP, &shifted)
        }
        Segment::High(EUC_KR_SEGMENT) => decode_bytes(EUC_KR, bytes),
        Segment::High(_) => decode_bytes(GBK, bytes),
    }
}

fn decode_with(term: &str, bytes: &[u8]) -> String {
    let number = term.strip_prefix("ISO_IR ").unwrap_or(term);
    let encoding = match number {
        "192" => UTF_8,
        "101" => ISO_8859_2,
        "109" => ISO_8859_3,
        "110" => ISO_8859_4,
        "144" => ISO_8859_5,
        "127" => ISO_8859_6,
        "126" => ISO_8859_7,
        "138" => ISO_8859_8,
        "148" => WINDOWS_1254,
        "166" => WINDOWS_874,
        "203" => encoding_rs::ISO_8859_15,
        "13" => SHIFT_JIS,
        "149" => EUC_KR,
        "58" | "GBK" => GBK,
        "GB18030" => GB18030,
        "BIG5" => BIG5,
        "87" | "159" => ISO_2022_JP,
        // ISO IR 6 and 100; bytes above 127 without a declaration are most often Latin 1.
        _ => WINDOWS_1252,
    };
    decode_bytes(encoding, bytes)
}

fn decode_bytes(encoding: &'static Encoding, bytes: &[u8]) -> String {
    encoding.decode_without_bom_handling(bytes).0.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_decoded_is_said_and_not_guessed() {
        let check = |declared: &str, bytes: &[u8], expected: Option<&str>| {
            let decoded = CharacterSet::declared(declared.as_bytes()).decode_exactly(bytes);
            assert_eq!(decoded.as_deref(), expected, "{declared} {bytes:?}");
        };
        check("", b"Adams^John", Some("Adams^John"));
        check("nonsense", b"Adams^John", Some("Adams^John"));
        check("ISO_IR 100", b"Buc^J\xe9r\xf4me", Some("Buc^Jérôme"));
        check("ISO_IR 192", "Wang^XiaoDong=王^小东".as_bytes(), Some("Wang^XiaoDong=王^小东"));
        check("\\ISO 2022 IR 87", b"Y=\x1b$B;3ED\x1b(B", Some("Y=山田"));
        check("", b"Buc^J\xe9r\xf4me", None);
        check("ISO_IR 6", b"Buc^J\xe9r\xf4me", None);
        check("ISO_IR 999", b"Buc^J\xe9r\xf4me", None);
        check("ISO_IR 192", b"Buc^J\xe9r\xf4me", None);
        check("\\ISO 2022 IR 87", b"Y=\x1b$Z;3ED\x1b(B", None);
    }

    /// The examples of PS3.5 annexes H, I, J and K.
    #[test]
    fn the_standards_own_examples_decode() {
        let check = |declared: &str, bytes: &[u8], expected: &str| {
            assert_eq!(CharacterSet::declared(declared.as_bytes()).decode(bytes), expected, "{declared}");
        };
        check("", b"Adams^John", "Adams^John");
        check("ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme");
        check("ISO_IR 144", b"\xbb\xee\xda\x63\x65\xdc", "Люкceм");
        check("ISO_IR 192", "Wang^XiaoDong=王^小东".as_bytes(), "Wang^XiaoDong=王^小东");
        check(
            "\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        );
        check(
            "ISO 2022 IR 13\\ISO 2022 IR 87",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        );
        check(
            "\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        );
        check(
            "\\ISO 2022 IR 58",
            b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
            "Zhang^XiaoDong=张^小东=",
        );
        check("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab", "Wang^XiaoDong=王^小东");
    }
}
