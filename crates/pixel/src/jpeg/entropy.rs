//! Huffman codes and what they are codes of: the entropy-coded data of a scan.

use std::num::Wrapping;

use super::{damaged, dct::Word};
use crate::Error;

/// The differences of the lossless process by their codes: those of few bits are looked up at once, with their sign.
pub(super) struct Differences<'a> {
    /// By the next bits: the difference, and how many bits it took; 0 when they are more.
    short: Vec<(i16, u8)>,
    table: &'a Huffman,
}

impl<'a> Differences<'a> {
    const SHORT: u32 = 12;

    pub(super) fn of(table: &'a Huffman) -> Self {
        let entry = |next: u64| {
            // Zeros follow the bits that are known; a difference that reaches into them is too long.
            let mut bits =
                Bits { data: &[], at: 0, buffer: next << (64 - Self::SHORT), count: Self::SHORT.cast_signed() };
            let difference = bits.long_difference(table);
            match (i16::try_from(difference), u8::try_from(Self::SHORT.cast_signed() - bits.count)) {
                (Ok(difference), Ok(length)) if bits.count >= 0 => (difference, length),
                _ => (0, 0),
            }
        };
        Self { short: (0..1 << Self::SHORT).map(entry).collect(), table }
    }
}

/// A Huffman table (T.81 annex C), with the codes of up to [`Self::FAST`] bits looked up at once.
#[derive(Clone)]
pub(super) struct Huffman {
    /// By the next bits: length of the code, or 0 when it is longer, and symbol.
    fast: Vec<(u8, u8)>,
    /// By length: one past the last code, shifted to 16 bits; and what to add to a code for its symbol's index.
    long: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Huffman {
    const FAST: u32 = 9;

    fn new(counts: &[u8], symbols: &[u8]) -> Option<Self> {
        let mut table = Self { fast: vec![(0, 0); 1 << Self::FAST], long: [(0, 0); 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for (length, count) in (1u32..=16).zip(counts) {
            let first = code;
            for _ in 0..*count {
                let symbol = *symbols.get(index)?;
                if code >> length != 0 {
                    return None;
                }
                if length <= Self::FAST {
                    let at = (code << (Self::FAST - length)) as usize;
                    table.fast[at..at + (1 << (Self::FAST - length))].fill((u8::try_from(length).ok()?, symbol));
                }
                (code, index) = (code + 1, index + 1);
            }
            let last = i32::try_from(index).ok()? - i32::try_from(code).ok()?;
            table.long[length as usize] = (if code > first { code << (16 - length) } else { 0 }, last);
            code <<= 1;
        }
        Some(table)
    }
}

pub(super) fn read_huffman(mut segment: &[u8], tables: &mut [Option<Huffman>; 8]) -> Option<()> {
    while let Some((head, rest)) = segment.split_first() {
        let counts = rest.get(..16)?;
        let symbols = counts.iter().map(|count| usize::from(*count)).sum::<usize>();
        let place = tables.get_mut(usize::from((head >> 4) * 4 + (head & 15)))?;
        if head & 15 > 3 {
            return None;
        }
        *place = Some(Huffman::new(counts, rest.get(16..16 + symbols)?)?);
        segment = &rest[16 + symbols..];
    }
    Some(())
}

/// The entropy-coded data, bit by bit, without the stuffed zeros (T.81 F.1.2.3).
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, the first one highest; zeros after the end.
    buffer: u64,
    /// How many of them are there: fewer than none when more were taken, or when a code was none, and for good.
    count: i32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, buffer: 0, count: 0 }
    }

    /// At least 32 bits, if there are so many before the next marker.
    #[inline(always)]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(&[a, b, c, d]) = self.data.get(self.at..).and_then(<[u8]>::first_chunk::<4>)
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

    #[inline(never)]
    fn fill_slowly(&mut self) {
        while self.count <= 48 && self.count >= 0 {
            let (byte, width) = match self.data.get(self.at..) {
                Some([0xff, 0, ..]) => (0xff, 2),
                Some([0xff, ..] | []) | None => return,
                Some([byte, ..]) => (*byte, 1),
            };
            self.at += width;
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline(always)]
    fn skip(&mut self, length: u32) {
        self.buffer <<= length;
        self.count -= length.cast_signed();
    }

    /// A scan that was cut short must not pass for a whole image, nor one with a code that is none.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.count < 0 {
            Err(damaged("the scan ends before the image is full, or has a code that is none"))
        } else {
            Ok(())
        }
    }

    /// The symbol of the next code, of which there are up to 16 bits in the buffer. What is none shows in `check`.
    #[inline(always)]
    fn symbol(&mut self, table: &Huffman) -> u8 {
        let (length, symbol) = table.fast[(self.buffer >> (64 - Huffman::FAST)) as usize];
        if length > 0 {
            self.skip(length.into());
            return symbol;
        }
        self.long_symbol(table)
    }

    fn long_symbol(&mut self, table: &Huffman) -> u8 {
        let next = (self.buffer >> 48) as u32;
        for length in Huffman::FAST + 1..=16 {
            let (end, add) = table.long[length as usize];
            if next < end {
                self.skip(length);
                let index = i32::try_from(next >> (16 - length)).unwrap_or(-1) + add;
                let symbol = usize::try_from(index).ok().and_then(|index| table.symbols.get(index));
                return symbol.copied().unwrap_or_else(|| self.none());
            }
        }
        self.none()
    }

    /// Takes note of a code that is none.
    fn none(&mut self) -> u8 {
        self.count = i32::MIN / 2;
        0
    }

    /// RECEIVE and EXTEND (T.81 F.2.2.1), of at most 16 bits.
    #[inline(always)]
    fn signed(&mut self, length: u32) -> i32 {
        let bits = (self.buffer >> 32 >> (32 - length)) as i32;
        self.skip(length);
        let negative = i32::from(bits < 1 << length >> 1);
        bits + negative * (1 - (1 << length))
    }

    /// A difference of the lossless process.
    #[inline(always)]
    pub(super) fn difference(&mut self, table: &Differences<'_>) -> i32 {
        self.fill();
        let (difference, length) = table.short[(self.buffer >> (64 - Differences::SHORT)) as usize];
        if length > 0 {
            self.skip(length.into());
            return difference.into();
        }
        self.long_difference(table.table)
    }

    /// The same, of up to 32 bits. Category 16 has no further ones (T.81 H.1.2.2).
    fn long_difference(&mut self, table: &Huffman) -> i32 {
        match self.symbol(table) {
            16 => 32768,
            category @ 0..=15 => self.signed(category.into()),
            _ => self.none().into(),
        }
    }

    /// The dequantized coefficients of a block, row by row.
    pub(super) fn block(
        &mut self,
        dc: &Huffman,
        ac: &Huffman,
        quantization: &[u16; 64],
        previous: &mut i32,
    ) -> Result<[Word; 64], Error> {
        let mut coefficients = [Wrapping(0); 64];
        self.fill();
        let category = self.symbol(dc);
        if category > 15 {
            return Err(damaged("a difference has an impossible category"));
        }
        *previous = previous.wrapping_add(self.signed(category.into()));
        coefficients[0] = Wrapping(*previous) * Wrapping(quantization[0].into());
        let mut at = 1;
        while at < 64 {
            self.fill();
            let symbol = self.symbol(ac);
            let (run, category) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            match (run, category) {
                (15, 0) => at += 16,
                (_, 0) => break,
                _ => {
                    at += run;
                    let value = self.signed(category);
                    let place = ZIGZAG.get(at).ok_or_else(|| damaged("a block has too many coefficients"))?;
                    coefficients[usize::from(*place)] = Wrapping(value) * Wrapping(quantization[at].into());
                    at += 1;
                }
            }
        }
        self.check()?;
        Ok(coefficients)
    }

    /// Passes the restart marker that is due: RST0 to RST7 in turn.
    pub(super) fn restart(&mut self, number: usize) -> Result<(), Error> {
        self.fill();
        self.check()?;
        (self.buffer, self.count) = (0, 0);
        while let Some([0xff, 0xff, ..]) = self.data.get(self.at..) {
            self.at += 1;
        }
        match self.data.get(self.at..) {
            Some([0xff, marker, ..]) if usize::from(*marker) == 0xd0 + number % 8 => {
                self.at += 2;
                Ok(())
            }
            _ => Err(damaged("a restart marker is not where it is due")),
        }
    }
}

/// By coded order, the place of a coefficient (T.81 figure A.6).
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];
