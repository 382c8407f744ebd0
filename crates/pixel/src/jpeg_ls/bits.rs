//! The bits of a JPEG-LS scan, and the codes that are made of them.

use super::damaged;
use crate::Error;

/// The entropy-coded data, bit by bit. After a byte of ones the next one has seven bits (T.87 A.1).
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    after_ones: bool,
    /// The next bits, the first one highest; zeros after the end.
    buffer: u64,
    /// How many of them are there: fewer than none when more were taken, and for good.
    count: i32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, after_ones: false, buffer: 0, count: 0 }
    }

    /// At least 32 bits, if there are so many.
    #[inline(always)]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(&[a, b, c, d]) = self.data.get(self.at..).and_then(<[u8]>::first_chunk::<4>)
            && !self.after_ones
            && self.count >= 0
        {
            let word = u32::from_be_bytes([a, b, c, d]);
            // Whether no byte is 255: of the complement, none is 0.
            if (!word).wrapping_sub(0x0101_0101) & word & 0x8080_8080 == 0 {
                self.buffer |= u64::from(word) << (32 - self.count);
                self.count += 32;
                self.at += 4;
                return;
            }
        }
        self.fill_slowly();
    }

    fn fill_slowly(&mut self) {
        while self.count <= 48 && self.count >= 0 {
            let Some(byte) = self.data.get(self.at).copied() else { return };
            let width = if self.after_ones { 7 } else { 8 };
            // A marker, which a restart interval ends with.
            if byte == 0xff && self.data.get(self.at + 1).is_some_and(|next| *next > 0x7f) {
                return;
            }
            self.buffer |= u64::from(byte) << (64 - width - self.count);
            self.count += width;
            self.after_ones = byte == 0xff;
            self.at += 1;
        }
    }

    /// Whether more bits were taken than there were.
    #[inline]
    pub(super) fn overrun(&self) -> bool {
        self.count < 0
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, length: u32) {
        self.buffer <<= length;
        self.count = self.count.wrapping_sub(length.cast_signed());
    }

    /// The next bits, at most 31. Errors when the data ended long ago.
    #[inline]
    pub(super) fn take(&mut self, length: u32) -> Result<u32, Error> {
        self.fill();
        let bits = (self.buffer >> 32 >> (32 - length)) as u32;
        self.skip(length);
        if self.overrun() { Err(damaged("the scan ends before the image is full")) } else { Ok(bits) }
    }

    /// A limited Golomb code (T.87 A.5.3): a mapped error. What is none shows as an overrun.
    #[inline(always)]
    pub(super) fn golomb(&mut self, parameter: u32, limit: u32, error_bits: u32) -> i32 {
        self.fill();
        let zeros = self.buffer.leading_zeros();
        let escape = limit - error_bits - 1;
        if zeros < escape && zeros + 1 + parameter <= 32 {
            // Beyond the zeros, without the one that ends them.
            let rest = self.buffer << zeros << 1;
            let rest = (rest >> 32 >> (32 - parameter)) as u32;
            self.skip(zeros + 1 + parameter);
            return (zeros << parameter | rest).cast_signed();
        }
        let mapped;
        (*self, mapped) = self.long_golomb(parameter, escape, error_bits);
        mapped
    }

    /// The same for a code of more bits than are in the buffer for sure. By value, so that nothing points to the caller's.
    #[inline(never)]
    fn long_golomb(mut self, parameter: u32, escape: u32, error_bits: u32) -> (Self, i32) {
        let mut zeros = 0;
        loop {
            let some = self.buffer.leading_zeros().min(32);
            self.skip(some);
            zeros += some;
            self.fill();
            if some < 32 || zeros > escape {
                break;
            }
        }
        self.skip(1);
        self.fill();
        let bits = if zeros < escape { parameter } else { error_bits };
        if zeros > escape || bits > 31 || self.overrun() {
            self.count = -1;
            return (self, 0);
        }
        let rest = (self.buffer >> 32 >> (32 - bits)) as u32;
        self.skip(bits);
        let mapped = if zeros < escape { u64::from(zeros) << parameter | u64::from(rest) } else { u64::from(rest) + 1 };
        match i32::try_from(mapped) {
            Ok(mapped) if mapped < 1 << 18 => (self, mapped),
            _ => {
                self.count = -1;
                (self, 0)
            }
        }
    }

    /// What follows the restart marker that is due: RST0 to RST7 in turn.
    pub(super) fn restarted(&self, number: usize) -> Result<&'a [u8], Error> {
        let rest = &self.data[self.at..];
        let marker = rest.windows(2).position(|pair| pair[0] == 0xff && pair[1] > 0x7f);
        match marker.map(|at| (usize::from(rest[at + 1]), &rest[at + 2..])) {
            Some((found, after)) if found == 0xd0 + number % 8 => Ok(after),
            _ => Err(damaged("a restart marker is not where it is due")),
        }
    }
}
