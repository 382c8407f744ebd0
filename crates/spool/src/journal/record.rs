//! How a record stands in a segment.

/// Bytes of a header: mark, epoch, stream, kind, payload length, check.
pub(crate) const HEADER: usize = 40;

const MARK: [u8; 4] = *b"PRJ1";
const CHECKED: usize = 28;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Bytes of an instance. Its payload is not checked here: the instance's digest is.
    Chunk = 1,
    /// What makes an instance count.
    Record = 2,
}

/// The header of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) epoch: u64,
    pub(super) stream: u64,
    pub(super) kind: Kind,
    pub(super) length: usize,
}

impl Header {
    pub(super) fn to_bytes(self, payload: &[u8]) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MARK);
        bytes[4..12].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.stream.to_le_bytes());
        bytes[20] = self.kind as u8;
        bytes[24..CHECKED].copy_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_le_bytes());
        let check = self.check(&bytes, payload);
        bytes[CHECKED..].copy_from_slice(&check);
        bytes
    }

    /// Reads a header, which says nothing yet about whether it is intact.
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        let kind = match bytes[20] {
            1 => Kind::Chunk,
            2 => Kind::Record,
            _ => return None,
        };
        let length = u32::from_le_bytes(std::array::from_fn(|index| bytes[24 + index])) as usize;
        (bytes[..4] == MARK).then(|| Self { epoch: number(4), stream: number(12), kind, length })
    }

    /// Whether the header, and the payload of what is no chunk, are as they were written.
    pub(super) fn is_intact(self, bytes: &[u8; HEADER], payload: &[u8]) -> bool {
        bytes[CHECKED..] == self.check(bytes, payload)
    }

    fn check(self, bytes: &[u8; HEADER], payload: &[u8]) -> [u8; HEADER - CHECKED] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes[..CHECKED]);
        if self.kind == Kind::Record {
            hasher.update(payload);
        }
        let hash = hasher.finalize();
        std::array::from_fn(|index| hash.as_bytes()[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back_and_any_flipped_bit_is_seen() {
        let header = Header { epoch: 7, stream: 9, kind: Kind::Record, length: 4 };
        let bytes = header.to_bytes(b"able");
        assert_eq!(Header::parse(&bytes), Some(header));
        assert!(header.is_intact(&bytes, b"able") && !header.is_intact(&bytes, b"axle"));
        for bit in 0..HEADER * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let intact = Header::parse(&flipped).is_some_and(|header| header.is_intact(&flipped, b"able"));
            assert!(!intact, "bit {bit}");
        }
    }
}
