use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// A DICOM unique identifier: at most 64 characters of digits and single dots, no component with a leading zero
/// (PS3.5 section 9.1). Never a path: `/` cannot be in it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(String);

/// The text is no UID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid UID (PS3.5 section 9.1)")]
pub struct UidError;

impl Uid {
    /// The UID as text, without padding.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A UID that depends on nothing but `parts`, in order: `2.25.` and 128 bits of their SHA-256 (PS3.5 B.2).
    ///
    /// Each part is hashed with its length, so that no two lists of parts collide by concatenation.
    pub fn derive(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        // The version and variant bits of a UUID (RFC 9562 version 8), which 2.25 promises its number to be.
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(format!("2.25.{}", u128::from_be_bytes(bytes)))
    }

    /// Reads a UID from an element's value: trailing NUL (and the space that some senders use) is padding.
    pub fn from_value(value: &[u8]) -> Result<Self, UidError> {
        std::str::from_utf8(value).map_err(|_| UidError)?.trim_end_matches(['\0', ' ']).parse()
    }
}

impl FromStr for Uid {
    type Err = UidError;

    fn from_str(text: &str) -> Result<Self, UidError> {
        // A component with a leading zero breaks the standard but identifies as well as any other, and refusing
        // the instance would lose it.
        let component = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() <= 64 && text.split('.').all(component) { Ok(Self(text.to_owned())) } else { Err(UidError) }
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Uid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_and_dots_make_a_uid() {
        for good in ["1.2.840.10008.1.2", "2.25.0", "1", "1.02.3"] {
            assert_eq!(good.parse::<Uid>().unwrap().as_str(), good);
        }
        let long = "1.".repeat(32) + "1";
        for bad in ["", ".", "1.", ".1", "1..2", "../../etc/passwd", "/etc/passwd", "1.2\0", "1.2 ", "1.x", &long] {
            assert_eq!(bad.parse::<Uid>(), Err(UidError), "{bad:?}");
        }
    }

    #[test]
    fn derived_uids_are_stable_valid_and_depend_on_where_parts_end() {
        let uid = Uid::derive(&[b"a", b"bc"]);
        assert_eq!(uid, Uid::derive(&[b"a", b"bc"]));
        assert_ne!(uid, Uid::derive(&[b"ab", b"c"]));
        assert_eq!(uid.as_str().parse::<Uid>().as_ref(), Ok(&uid));
    }
}
