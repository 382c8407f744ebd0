//! Memory that a disk takes as it is.

use std::sync::{Mutex, PoisonError};

/// What offsets, lengths and addresses are multiples of where bytes go to the disk past the page cache: no disk in use asks
/// for more.
pub(crate) const BLOCK: usize = 4 << 10;

/// A buffer of fixed capacity that begins at a multiple of [`BLOCK`]. Memory that was never written to costs nothing.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    pub(crate) fn new(capacity: usize) -> Self {
        let memory = vec![0; capacity + BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        Self { memory, start, length: 0 }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.memory.len() - BLOCK
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Room that is left.
    pub(crate) fn room(&self) -> usize {
        self.capacity() - self.length
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }

    /// Appends what there is room for; answers the rest.
    pub(crate) fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (now, rest) = bytes.split_at(bytes.len().min(self.room()));
        let end = self.start + self.length;
        self.memory[end..end + now.len()].copy_from_slice(now);
        self.length += now.len();
        rest
    }

    /// Makes it so long; what is new in it is whatever was there.
    pub(crate) fn set_len(&mut self, length: usize) {
        self.length = length.min(self.capacity());
    }

    /// Everything, with zeros up to the next multiple of [`BLOCK`].
    pub(crate) fn blocks(&mut self) -> &[u8] {
        let end = self.start + self.length;
        let padded = self.start + self.length.next_multiple_of(BLOCK).min(self.capacity());
        self.memory[end..padded].fill(0);
        &self.memory[self.start..padded]
    }
}

/// Buffers that are used again: fresh memory costs the system as much as the copy into it.
pub(crate) struct Buffers {
    capacity: usize,
    free: Mutex<Vec<Buffer>>,
}

/// Buffers kept while nobody needs them.
const KEPT: usize = 8;

impl Buffers {
    /// Of a capacity that is a multiple of [`BLOCK`].
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.next_multiple_of(BLOCK), free: Mutex::default() }
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> Buffer {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = free.unwrap_or_else(|| Buffer::new(self.capacity));
        buffer.set_len(0);
        buffer
    }

    pub(crate) fn give_back(&self, buffer: Buffer) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_at_a_block_and_is_padded_with_zeros() {
        for capacity in [0, BLOCK, 3 * BLOCK] {
            let mut buffer = Buffer::new(capacity);
            let bytes = vec![7; 5_000];
            let rest = buffer.fill(&bytes).len();
            assert_eq!(rest, 5_000 - capacity.min(5_000));
            let length = buffer.len();
            let blocks = buffer.blocks();
            assert_eq!((blocks.as_ptr().align_offset(BLOCK), blocks.len() % BLOCK), (0, 0));
            assert!(blocks[..length].iter().all(|byte| *byte == 7) && blocks[length..].iter().all(|byte| *byte == 0));
        }
    }
}
