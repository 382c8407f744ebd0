//! A text value without its control characters, its other bytes as they came.

use encoding_rs::{BIG5, EUC_KR, Encoding, GB18030, GBK, SHIFT_JIS};

use super::{CharacterSet, EUC_KR_SEGMENT, Segment, decode_segment, decode_with, designation};

/// A text value without control characters (see [`CharacterSet::clean`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// The bytes that are left, in their order, none changed; padding is gone.
    pub bytes: Vec<u8>,
    /// The same as text; what has no meaning in the declared set is U+FFFD, and nothing is guessed.
    pub text: String,
    /// How many control characters are gone.
    pub dropped: usize,
    /// Whether one of them was above 127. Senders have letters there, of sets that they do not name: two values that are
    /// the same without may have been two.
    pub upper_dropped: bool,
    /// Whether the bytes can be read.
    pub meaning: Meaning,
}

/// Whether the bytes of a value have a meaning in the character set that is declared for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    /// Each of them.
    Sure,
    /// There are bytes above 127, and no character set is declared: they can be repeated, not converted. Those from 128 to
    /// 159 are part of a letter of UTF-8.
    Undeclared,
    /// Some have none: what they say would be a guess. A byte from 128 to 159 has none in a set whose characters are single
    /// bytes, nor where none is declared: those who write it mean a letter of another set.
    None,
}

/// How the bytes at one place are read.
#[derive(Clone, Copy)]
enum Reading {
    Utf8,
    /// One byte is one character.
    Single(&'static str),
    /// No set is declared: ISO IR 6.
    Default,
    /// JIS X 0201, whose upper half some senders take for Shift JIS.
    Katakana,
    /// Two bytes of the lower half.
    Low(Segment),
    /// Two bytes of the upper half, ASCII in the lower.
    High(u8),
    /// One to four bytes, of which only the first says that there are more.
    Mixed(&'static Encoding),
    /// The declared term is none that is known.
    Unknown,
}

impl CharacterSet {
    /// Takes the control characters (C0, C1, DEL) out of a value; an ESC stays where it begins a designation of ISO 2022
    /// (PS3.5 6.1.2.5), and with `lines` tabs, line ends and form feeds stay too, as ST, LT and UT may have them.
    ///
    /// A byte from 128 to 159 that is no part of a character goes too, so that no terminal obeys it, and leaves the value
    /// without a meaning.
    pub fn clean(&self, bytes: &[u8], lines: bool) -> Cleaned {
        let end = bytes.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
        let bytes = &bytes[..end];
        let mut walk = Walk { initial: self.initial(), lines, found: Cleaned::empty(), upper_controls: false };
        walk.run(bytes);
        // A byte that is no character in a set of single bytes may be half of a letter of UTF-8, which many send under
        // another name or under none. Without it the letter would be another one.
        let utf8 =
            || std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(|c| ('\u{7f}'..'\u{a0}').contains(&c)));
        let undeclared = matches!(self.initial(), Reading::Default) && self.terms.len() < 2;
        if walk.upper_controls && undeclared && utf8() && !bytes.iter().any(|byte| *byte < 0x20) {
            let found = walk.found;
            return Cleaned {
                bytes: bytes.to_vec(),
                meaning: Meaning::Undeclared,
                dropped: 0,
                upper_dropped: false,
                ..found
            };
        }
        walk.found
    }

    fn initial(&self) -> Reading {
        match self.terms.first().map_or("", String::as_str) {
            "" | "ISO_IR 6" => Reading::Default,
            "ISO_IR 192" => Reading::Utf8,
            "ISO_IR 13" => Reading::Katakana,
            "ISO_IR 149" => Reading::High(EUC_KR_SEGMENT),
            "ISO_IR 58" => Reading::High(super::GBK_SEGMENT),
            "ISO_IR 87" | "ISO_IR 159" => Reading::Single("ISO_IR 6"),
            "GB18030" => Reading::Mixed(GB18030),
            "GBK" => Reading::Mixed(GBK),
            "BIG5" => Reading::Mixed(BIG5),
            term => {
                super::SINGLE.iter().find(|known| **known == term).map_or(Reading::Unknown, |it| Reading::Single(it))
            }
        }
    }
}

impl Cleaned {
    fn empty() -> Self {
        Self { bytes: Vec::new(), text: String::new(), dropped: 0, upper_dropped: false, meaning: Meaning::Sure }
    }

    fn keep(&mut self, bytes: &[u8], text: &str) {
        self.bytes.extend(bytes);
        self.text.push_str(text);
    }

    /// Leaves out a byte from 128 to 159 that is no part of a character.
    fn leave_out(&mut self) {
        self.text.push('\u{fffd}');
        self.drop_upper();
        self.meaning = Meaning::None;
    }

    /// Leaves out a control character above 127.
    fn drop_upper(&mut self) {
        self.dropped += 1;
        self.upper_dropped = true;
    }

    /// Keeps bytes that cannot be read.
    fn unread(&mut self, bytes: &[u8], meaning: Meaning) {
        self.keep(bytes, "\u{fffd}");
        self.meaning = self.meaning.max(meaning);
    }
}

struct Walk {
    initial: Reading,
    lines: bool,
    found: Cleaned,
    /// Whether a byte from 128 to 159 stood where each byte is a character.
    upper_controls: bool,
}

impl Walk {
    fn run(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        let mut reading = self.initial;
        while let Some(&first) = rest.first() {
            if let Some((segment, after)) = rest.strip_prefix(b"\x1b").and_then(designation) {
                self.found.bytes.extend(&rest[..rest.len() - after.len()]);
                reading = Reading::designated(segment);
                rest = after;
                continue;
            }
            let taken = if first < 0x20 || first == 0x7f { self.control(first) } else { self.character(reading, rest) };
            // A delimiter brings the initial set back (PS3.5 6.1.2.5.3).
            let delimiter =
                matches!(first, b'\r' | b'\n' | 0x0c | b'\t') || taken == 1 && matches!(first, b'\\' | b'^' | b'=');
            if delimiter {
                reading = self.initial;
            }
            rest = &rest[taken..];
        }
    }

    /// A control character of one byte.
    fn control(&mut self, byte: u8) -> usize {
        if self.lines && matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c) {
            self.found.keep(&[byte], char::from(byte).encode_utf8(&mut [0; 4]));
        } else {
            self.found.dropped += 1;
        }
        1
    }

    /// The character that `rest` begins with; how many bytes it has.
    fn character(&mut self, reading: Reading, rest: &[u8]) -> usize {
        let first = rest[0];
        let upper_control = (0x80..0xa0).contains(&first);
        match reading {
            Reading::Utf8 => return self.utf8(rest),
            Reading::Low(segment) if first < 0x80 => return self.low(segment, rest),
            // What is designated to the lower half leaves the upper half as it was.
            Reading::Low(_) => return self.character(self.initial_upper(), rest),
            _ if first < 0x80 => self.found.keep(&rest[..1], char::from(first).encode_utf8(&mut [0; 4])),
            Reading::Mixed(encoding) => return self.mixed(encoding, rest),
            Reading::High(set) => return self.high(set, rest),
            Reading::Unknown => self.found.unread(&rest[..1], Meaning::None),
            Reading::Katakana if decodes(SHIFT_JIS, rest, 2).is_some() => {
                self.found.unread(&rest[..2], Meaning::None);
                return 2;
            }
            _ if upper_control => {
                self.upper_controls = true;
                self.found.leave_out();
            }
            Reading::Default => self.found.unread(&rest[..1], Meaning::Undeclared),
            Reading::Katakana => self.one(decodes(SHIFT_JIS, rest, 1), &rest[..1]),
            Reading::Single("ISO_IR 6") => self.found.unread(&rest[..1], Meaning::None),
            Reading::Single(term) => self.one(Some(decode_with(term, &rest[..1])), &rest[..1]),
        }
        1
    }

    fn one(&mut self, text: Option<String>, bytes: &[u8]) {
        match text.filter(|text| !text.contains('\u{fffd}')) {
            Some(text) => self.found.keep(bytes, &text),
            None => self.found.unread(bytes, Meaning::None),
        }
    }

    /// How the upper half is read while a double-byte set is designated to the lower one.
    fn initial_upper(&self) -> Reading {
        match self.initial {
            Reading::Low(_) => Reading::Unknown,
            initial => initial,
        }
    }

    fn utf8(&mut self, rest: &[u8]) -> usize {
        let chunk = &rest[..rest.len().min(4)];
        let valid = match std::str::from_utf8(chunk) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&chunk[..error.valid_up_to()]).unwrap_or_default(),
        };
        match valid.chars().next() {
            Some(c) if c.is_control() => {
                self.found.drop_upper();
                c.len_utf8()
            }
            Some(c) => {
                self.found.keep(&rest[..c.len_utf8()], c.encode_utf8(&mut [0; 4]));
                c.len_utf8()
            }
            None if (0x80..0xa0).contains(&rest[0]) => {
                self.found.leave_out();
                1
            }
            None => {
                self.found.unread(&rest[..1], Meaning::None);
                1
            }
        }
    }

    fn low(&mut self, segment: Segment, rest: &[u8]) -> usize {
        if rest[0] == b' ' {
            self.found.keep(b" ", " ");
            return 1;
        }
        match rest.get(..2).filter(|pair| (0x21..0x7f).contains(&pair[1])) {
            Some(pair) => {
                self.one(Some(decode_segment(segment, pair)), pair);
                2
            }
            None => {
                self.found.unread(&rest[..1], Meaning::None);
                1
            }
        }
    }

    fn high(&mut self, set: u8, rest: &[u8]) -> usize {
        let encoding = if set == EUC_KR_SEGMENT { EUC_KR } else { GBK };
        let pair = rest.get(..2).filter(|pair| pair[1] >= 0x41).and_then(|_| decodes(encoding, rest, 2));
        match pair {
            Some(text) if rest[0] >= 0xa1 && rest[1] >= 0xa1 => {
                self.found.keep(&rest[..2], &text);
                2
            }
            // A code of a vendor's extension, which begins with what is a control character elsewhere.
            Some(_) => {
                self.found.unread(&rest[..2], Meaning::None);
                2
            }
            None if rest[0] < 0xa0 => {
                self.found.leave_out();
                1
            }
            None => {
                self.found.unread(&rest[..1], Meaning::None);
                1
            }
        }
    }

    fn mixed(&mut self, encoding: &'static Encoding, rest: &[u8]) -> usize {
        for length in [2, 4] {
            if let Some(text) = decodes(encoding, rest, length) {
                if text.chars().any(char::is_control) {
                    self.found.drop_upper();
                } else {
                    self.found.keep(&rest[..length], &text);
                }
                return length;
            }
        }
        if rest[0] < 0xa0 {
            self.found.leave_out();
        } else {
            self.found.unread(&rest[..1], Meaning::None);
        }
        1
    }
}

impl Reading {
    fn designated(segment: Segment) -> Self {
        match segment {
            Segment::Single("ISO_IR 13") => Self::Katakana,
            Segment::Single(term) => Self::Single(term),
            Segment::High(set) => Self::High(set),
            low => Self::Low(low),
        }
    }
}

/// The one character that the first `length` bytes are in `encoding`.
fn decodes(encoding: &'static Encoding, bytes: &[u8], length: usize) -> Option<String> {
    let (text, failed) = encoding.decode_without_bom_handling(bytes.get(..length)?);
    (!failed && text.chars().count() == 1).then(|| text.into_owned())
}
