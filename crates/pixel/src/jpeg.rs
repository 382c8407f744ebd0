//! The JPEGs of radiology that dicom-pixeldata's decoder, the `jpeg-decoder` crate, gets wrong or slowly. Measured: it
//! refuses sequential DCT of 12 bits, decodes a lossless scan (T.81 process 14) with restart markers to wrong values
//! without an error (its issue 286), and predicts from samples that a point transform has already shifted. Its inverse DCT
//! rounds in another way than that of other DICOM software, so DCT under a lossless transfer syntax, which is met, would
//! differ.

use std::num::Wrapping;

use crate::{
    Error,
    codec::Cells,
    codestream::{JpegHeader, segments},
};

const CODEC: &str = "JPEG";

/// Whether this module decodes a codestream of this frame header, in a transfer syntax that promises lossless pixels or
/// not.
pub(crate) fn decodes(header: &JpegHeader, lossless_syntax: bool) -> bool {
    header.lossless
        || ((header.precision > 8 || lossless_syntax) && !header.progressive && header.components.len() == 1)
}

/// What must hold of a lossless scan.
fn check_lossless(header: &JpegHeader) -> Result<(), Error> {
    if header.scan_components != header.components.len() || header.subsampled {
        return Err(Error::unsupported("lossless JPEG with a scan for each component or with subsampling"));
    }
    if !(1..=7).contains(&header.predictor)
        || header.precision > 16
        || u32::from(header.point_transform) >= header.precision
    {
        return Err(damaged("the scan header is malformed"));
    }
    Ok(())
}

/// Decodes to interleaved samples. The header's sizes must have been checked.
pub(crate) fn decode(data: &[u8], header: &JpegHeader) -> Result<Cells, Error> {
    let (scan, entropy) = Scan::read(data, header)?;
    let samples = if header.lossless { scan.lossless(entropy, header)? } else { scan.sequential(entropy, header)? };
    if header.precision <= 8 {
        Ok(Cells::Eight(samples.into_iter().map(|sample| sample.to_le_bytes()[0]).collect()))
    } else {
        Ok(Cells::Sixteen(samples))
    }
}

fn damaged(what: &str) -> Error {
    Error::codec(CODEC, what)
}

/// Everything that stands before the entropy-coded data of the one scan.
struct Scan {
    /// For each component of the scan, in order: its DC and AC table, and its quantization table.
    tables: Vec<(Huffman, Option<Huffman>, Option<[u16; 64]>)>,
    restart_interval: usize,
}

impl Scan {
    fn read<'a>(data: &'a [u8], header: &JpegHeader) -> Result<(Self, &'a [u8]), Error> {
        let mut huffman: [Option<Huffman>; 8] = Default::default();
        let mut quantization: [Option<[u16; 64]>; 4] = [None; 4];
        let mut restart_interval = 0;
        let mut segments = segments(CODEC, data)?;
        loop {
            let (marker, segment) = segments.next()?;
            match marker {
                0xc4 => read_huffman(segment, &mut huffman).ok_or_else(|| damaged("a Huffman table is malformed"))?,
                0xdb => {
                    let read = read_quantization(segment, &mut quantization);
                    read.ok_or_else(|| damaged("a quantization table is malformed"))?;
                }
                0xdd => {
                    let &[high, low] = segment else { return Err(damaged("the restart interval is malformed")) };
                    restart_interval = usize::from(u16::from_be_bytes([high, low]));
                }
                0xda => {
                    let scan = Self::of(segment, header, &huffman, &quantization, restart_interval)?;
                    return Ok((scan, segments.rest()));
                }
                _ => {}
            }
        }
    }

    fn of(
        segment: &[u8],
        header: &JpegHeader,
        huffman: &[Option<Huffman>; 8],
        quantization: &[Option<[u16; 64]>; 4],
        restart_interval: usize,
    ) -> Result<Self, Error> {
        let malformed = || damaged("the scan header is malformed");
        let count = usize::from(*segment.first().ok_or_else(malformed)?);
        let components = segment.get(1..1 + 2 * count).ok_or_else(malformed)?;
        let table = |index: u8| huffman.get(usize::from(index)).cloned().flatten();
        let mut tables = Vec::new();
        for (component, quantizer) in components.chunks_exact(2).zip(&header.quantizers) {
            let (dc, ac) = (component[1] >> 4, component[1] & 15);
            let dc = table(dc & 3).ok_or_else(|| damaged("a Huffman table is missing"))?;
            tables.push((dc, table(4 + (ac & 3)), quantization[usize::from(quantizer & 3)]));
        }
        Ok(Self { tables, restart_interval })
    }

    /// T.81 annex H. The first line of a restart interval is predicted from the left alone, as that of the image.
    fn lossless(&self, entropy: &[u8], header: &JpegHeader) -> Result<Vec<u16>, Error> {
        check_lossless(header)?;
        match header.predictor {
            1 => self.lossless_lines::<1>(entropy, header),
            2 => self.lossless_lines::<2>(entropy, header),
            3 => self.lossless_lines::<3>(entropy, header),
            4 => self.lossless_lines::<4>(entropy, header),
            5 => self.lossless_lines::<5>(entropy, header),
            6 => self.lossless_lines::<6>(entropy, header),
            _ => self.lossless_lines::<7>(entropy, header),
        }
    }

    fn lossless_lines<const PREDICTOR: u8>(&self, entropy: &[u8], header: &JpegHeader) -> Result<Vec<u16>, Error> {
        let (rows, columns, step) = (header.rows as usize, header.columns as usize, self.tables.len());
        let point_transform = u32::from(header.point_transform);
        if !self.restart_interval.is_multiple_of(columns) {
            return Err(damaged("a restart interval is not a number of whole lines"));
        }
        let restart_rows = self.restart_interval / columns;
        let start = 1i32 << (header.precision - point_transform - 1);
        // T.81 reduces modulo 65536; what exceeds the precision some encoders mean to wrap there.
        let mask = (1i32 << (header.precision - point_transform)) - 1;
        let tables: Vec<Differences<'_>> = self.tables.iter().map(|(dc, ..)| Differences::of(dc)).collect();
        let mut bits = Bits::new(entropy);
        let line = columns * step;
        let mut samples = vec![0u16; rows * line];
        for row in 0..rows {
            let first_line = if restart_rows > 0 { row % restart_rows == 0 } else { row == 0 };
            if first_line && row > 0 {
                bits.restart(row / restart_rows - 1)?;
            }
            let (above, here) = samples.split_at_mut(row * line);
            let above = &above[above.len().saturating_sub(line)..];
            let here = &mut here[..line];
            if let (false, [table], [first, ..]) = (first_line, tables.as_slice(), above) {
                let mut left = (i32::from(*first) + bits.difference(table)) & mask;
                here[0] = low_word(left);
                let mut corner = i32::from(*first);
                for (place, above) in here.iter_mut().zip(above).skip(1) {
                    let above = i32::from(*above);
                    left = (predict::<PREDICTOR>(left, above, corner) + bits.difference(table)) & mask;
                    *place = low_word(left);
                    corner = above;
                }
            } else {
                for at in 0..line {
                    let left = |samples: &[u16]| i32::from(samples[at - step]);
                    let prediction = match (first_line, at < step) {
                        (true, true) => start,
                        (true, false) => left(here),
                        (false, true) => i32::from(above[at]),
                        (false, false) => predict::<PREDICTOR>(left(here), i32::from(above[at]), left(above)),
                    };
                    here[at] = low_word((prediction + bits.difference(&tables[at % step])) & mask);
                }
            }
            bits.check()?;
        }
        if point_transform > 0 {
            samples.iter_mut().for_each(|sample| *sample <<= point_transform);
        }
        Ok(samples)
    }

    /// T.81 annex F, one component: blocks row by row, each a unit of the restart interval.
    fn sequential(&self, entropy: &[u8], header: &JpegHeader) -> Result<Vec<u16>, Error> {
        let [(dc, Some(ac), Some(quantization))] = self.tables.as_slice() else {
            return Err(damaged("a table of the scan is missing"));
        };
        let (rows, columns) = (header.rows as usize, header.columns as usize);
        let mut samples = vec![0u16; rows * columns];
        let mut bits = Bits::new(entropy);
        let mut previous = 0;
        let blocks = columns.div_ceil(8);
        for block in 0..rows.div_ceil(8) * blocks {
            if self.restart_interval > 0 && block > 0 && block % self.restart_interval == 0 {
                bits.restart(block / self.restart_interval - 1)?;
                previous = 0;
            }
            let mut coefficients = bits.block(dc, ac, quantization, &mut previous)?;
            inverse_dct(&mut coefficients, header.precision);
            let (top, left) = (block / blocks * 8, block % blocks * 8);
            for (y, line) in coefficients.chunks_exact(8).enumerate().take(rows - top) {
                let place = (top + y) * columns + left;
                for (sample, value) in samples[place..].iter_mut().zip(line).take(columns - left) {
                    *sample = low_word(value.0);
                }
            }
        }
        Ok(samples)
    }
}

/// T.81 table H.1.
#[inline(always)]
fn predict<const PREDICTOR: u8>(left: i32, above: i32, corner: i32) -> i32 {
    match PREDICTOR {
        1 => left,
        2 => above,
        3 => corner,
        4 => left + above - corner,
        5 => left + ((above - corner) >> 1),
        6 => above + ((left - corner) >> 1),
        _ => (left + above) >> 1,
    }
}

#[inline(always)]
fn low_word(value: i32) -> u16 {
    let [low, high, ..] = value.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// The differences of the lossless process by their codes: those of few bits are looked up at once, with their sign.
struct Differences<'a> {
    /// By the next bits: the difference, and how many bits it took; 0 when they are more.
    short: Vec<(i16, u8)>,
    table: &'a Huffman,
}

impl<'a> Differences<'a> {
    const SHORT: u32 = 12;

    fn of(table: &'a Huffman) -> Self {
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
struct Huffman {
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

fn read_huffman(mut segment: &[u8], tables: &mut [Option<Huffman>; 8]) -> Option<()> {
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

fn read_quantization(mut segment: &[u8], tables: &mut [Option<[u16; 64]>; 4]) -> Option<()> {
    while let Some((head, rest)) = segment.split_first() {
        let width = if head >> 4 == 0 { 1 } else { 2 };
        let values = rest.get(..64 * width)?;
        let mut table = [0; 64];
        for (place, value) in table.iter_mut().zip(values.chunks_exact(width)) {
            *place = value.iter().fold(0, |number, byte| number << 8 | u16::from(*byte));
        }
        *tables.get_mut(usize::from(head & 15))? = Some(table);
        segment = &rest[64 * width..];
    }
    Some(())
}

/// The entropy-coded data, bit by bit, without the stuffed zeros (T.81 F.1.2.3).
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, the first one highest; zeros after the end.
    buffer: u64,
    /// How many of them are there: fewer than none when more were taken, or when a code was none, and for good.
    count: i32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
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
    fn check(&self) -> Result<(), Error> {
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
    fn difference(&mut self, table: &Differences<'_>) -> i32 {
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
    fn block(
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
    fn restart(&mut self, number: usize) -> Result<(), Error> {
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
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Coefficients and samples: those of a damaged scan wrap, those of a valid one do not come near it.
type Word = Wrapping<i32>;

/// The integer inverse DCT after Loeffler, Ligtenberg and Moschytz with the constants and the rounding of the
/// Independent JPEG Group's "islow", so that values equal those of other DICOM software. Answers samples.
fn inverse_dct(block: &mut [Word; 64], precision: u32) {
    const CONSTANT_BITS: usize = 13;
    let extra = if precision > 8 { 1 } else { 2 };
    for column in 0..8 {
        let input: [Word; 8] = std::array::from_fn(|row| block[row * 8 + column]);
        // Most columns of a smooth image are constant.
        let transformed = if input[1..] == [Wrapping(0); 7] {
            [input[0] << extra; 8]
        } else {
            dct_8(input).map(|value| descaled(value, CONSTANT_BITS - extra))
        };
        for (row, value) in transformed.into_iter().enumerate() {
            block[row * 8 + column] = value;
        }
    }
    let (middle, highest) = (Wrapping(1i32 << (precision - 1)), Wrapping((1i32 << precision) - 1));
    for row in block.as_chunks_mut::<8>().0 {
        let transformed = dct_8(*row).map(|value| descaled(value, CONSTANT_BITS + extra + 3));
        *row = transformed.map(|value| (value + middle).clamp(Wrapping(0), highest));
    }
}

fn descaled(value: Word, bits: usize) -> Word {
    (value + Wrapping(1 << (bits - 1))) >> bits
}

#[inline(always)]
fn dct_8(input: [Word; 8]) -> [Word; 8] {
    let times = |value: Word, factor: i32| value * Wrapping(factor);
    let z1 = times(input[2] + input[6], 4433);
    let (even2, even3) = (z1 - times(input[6], 15137), z1 + times(input[2], 6270));
    let (even0, even1) = ((input[0] + input[4]) << 13, (input[0] - input[4]) << 13);
    let (a0, a3, a1, a2) = (even0 + even3, even0 - even3, even1 + even2, even1 - even2);
    let [_, i1, _, i3, _, i5, _, i7] = input;
    let z5 = times(i7 + i3 + i5 + i1, 9633);
    let (z1, z2) = (times(i7 + i1, -7373), times(i5 + i3, -20995));
    let (z3, z4) = (times(i7 + i3, -16069) + z5, times(i5 + i1, -3196) + z5);
    let (b0, b1) = (times(i7, 2446) + z1 + z3, times(i5, 16819) + z2 + z4);
    let (b2, b3) = (times(i3, 25172) + z2 + z3, times(i1, 12299) + z1 + z4);
    [a0 + b3, a1 + b2, a2 + b1, a3 + b0, a3 - b0, a2 - b1, a1 - b2, a0 - b3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{adapter, image_pixel::ImagePixel};

    /// A lossless codestream of 1-bit differences: symbol 0 is code 0, symbol 1 is code 10.
    fn lossless(rows: u16, columns: u16, restart: u16, predictor: u8, entropy: &[u8]) -> Vec<u8> {
        let mut data = vec![0xff, 0xd8, 0xff, 0xc3, 0, 11, 8];
        data.extend(rows.to_be_bytes().into_iter().chain(columns.to_be_bytes()));
        data.extend([1, 1, 0x11, 0, 0xff, 0xc4, 0, 21, 0, 1, 1]);
        data.extend([0; 14].into_iter().chain([0, 1]));
        data.extend([0xff, 0xdd, 0, 4].into_iter().chain(restart.to_be_bytes()));
        data.extend([0xff, 0xda, 0, 8, 1, 1, 0, predictor, 0, 0]);
        data.extend(entropy);
        data.extend([0xff, 0xd9]);
        data
    }

    fn decoded(data: &[u8]) -> Result<Cells, Error> {
        let header = crate::codestream::jpeg_header(CODEC, data)?;
        let ours = decode(data, &header);
        // Where dicom-pixeldata decodes right it must say the same, of damage too.
        if !header.restarts && header.point_transform == 0 {
            let layout = adapter::Layout::of(&ImagePixel::grey(header.rows, header.columns, 8), 8);
            let data = crate::codestream::ending_in_ones(data);
            let theirs = adapter::encapsulated(CODEC, "1.2.840.10008.1.2.4.70", data, layout).map(Cells::Eight);
            assert_eq!(theirs.as_ref().ok(), ours.as_ref().ok());
        }
        ours
    }

    /// What keeps this module: when one of these fails, dicom-pixeldata has learned it.
    #[test]
    fn dicom_pixeldata_does_not_know_restarts_and_point_transforms() {
        let theirs = |data: &[u8]| {
            let layout = adapter::Layout::of(&ImagePixel::grey(2, 2, 8), 8);
            adapter::encapsulated(CODEC, "1.2.840.10008.1.2.4.70", data.into(), layout).unwrap()
        };
        let restarts = lossless(2, 2, 2, 1, &[0b1011_0111, 0xff, 0xd0, 0b1011_0111]);
        assert_ne!(Cells::Eight(theirs(&restarts)), decoded(&restarts).unwrap());
        let entropy = [0b1011_0100];
        let mut shifted = lossless(2, 2, 0, 1, &entropy);
        let approximation = shifted.len() - 2 - entropy.len() - 1;
        shifted[approximation] = 1;
        assert_eq!(decoded(&shifted).unwrap(), Cells::Eight(vec![130, 132, 130, 130]));
        assert_ne!(theirs(&shifted), [130, 132, 130, 130]);
    }

    #[test]
    fn a_restart_interval_begins_anew() {
        // +1 and +1, each coded 101, on two lines that are an interval each.
        let data = lossless(2, 2, 2, 1, &[0b1011_0111, 0xff, 0xd0, 0b1011_0111]);
        assert_eq!(decoded(&data).unwrap(), Cells::Eight(vec![129, 130, 129, 130]));
        let data = lossless(2, 2, 2, 1, &[0b1011_0111, 0xff, 0xd1, 0b1011_0111]);
        assert!(decoded(&data).is_err());
    }

    #[test]
    fn each_predictor_looks_where_the_standard_says() {
        // First line 129 130, second line 129 from above; its second sample is its prediction.
        let due = [129, 130, 129, 130, 129, 130, 129];
        for (predictor, due) in (1..=7).zip(due) {
            let data = lossless(2, 2, 0, predictor, &[0b1011_0100]);
            let Cells::Eight(samples) = decoded(&data).unwrap() else { panic!("8 bits") };
            assert_eq!((samples[0], samples[1], samples[2]), (129, 130, 129));
            assert_eq!(samples[3], due, "predictor {predictor}");
        }
    }

    #[test]
    fn a_scan_cut_short_is_an_error() {
        let data = lossless(8, 8, 0, 1, &[0b1010_1010]);
        assert!(decoded(&data).is_err());
    }

    #[test]
    fn a_constant_block_is_constant() {
        let mut block = [Wrapping(0); 64];
        block[0] = Wrapping(80);
        inverse_dct(&mut block, 8);
        assert_eq!(block, [Wrapping(138); 64]);
    }
}
