//! How a record stands in a segment: a header, what says which instance it is, and, from the next block on, perhaps the
//! instance's bytes. The next record begins at the next block.

use crate::buffer::BLOCK;

/// Bytes of a header: mark, epoch, lengths, check.
pub(super) const HEADER: usize = 36;

const MARK: [u8; 4] = *b"PRJ3";
const CHECKED: usize = 20;

/// The header of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) epoch: u64,
    /// Bytes of the record that follows.
    pub(super) record: usize,
    /// Bytes of the instance that begin at the block after the record. They are not checked here: the record has their digest.
    pub(super) data: usize,
}

impl Header {
    /// Bytes from the beginning of the header to the instance's.
    pub(super) fn data_at(self) -> usize {
        (HEADER + self.record).next_multiple_of(BLOCK)
    }

    /// Bytes from the beginning of the header to the next one's.
    pub(super) fn total(self) -> usize {
        self.data_at() + self.data.next_multiple_of(BLOCK)
    }

    pub(super) fn to_bytes(self, record: &[u8]) -> [u8; HEADER] {
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MARK);
        bytes[4..12].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[12..16].copy_from_slice(&length(self.record));
        bytes[16..CHECKED].copy_from_slice(&length(self.data));
        let check = check(&bytes, record);
        bytes[CHECKED..].copy_from_slice(&check);
        bytes
    }

    /// Reads a header, which says nothing yet about whether it is intact.
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let length = |at: usize| u32::from_le_bytes(std::array::from_fn(|index| bytes[at + index])) as usize;
        let epoch = u64::from_le_bytes(std::array::from_fn(|index| bytes[4 + index]));
        (bytes[..4] == MARK).then(|| Self { epoch, record: length(12), data: length(16) })
    }

    /// Whether the header and the record are as they were written.
    pub(super) fn is_intact(self, bytes: &[u8; HEADER], record: &[u8]) -> bool {
        bytes[CHECKED..] == check(bytes, record)
    }
}

fn check(header: &[u8; HEADER], record: &[u8]) -> [u8; HEADER - CHECKED] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header[..CHECKED]).update(record);
    let hash = hasher.finalize();
    std::array::from_fn(|index| hash.as_bytes()[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back_and_any_flipped_bit_is_seen() {
        let header = Header { epoch: 7, record: 4, data: 9 };
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
