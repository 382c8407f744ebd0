//! The JPEGs of radiology that dicom-pixeldata's decoder, the `jpeg-decoder` crate, gets wrong or slowly. Measured: it
//! refuses sequential DCT of 12 bits, decodes a lossless scan (T.81 process 14) with restart markers to wrong values
//! without an error (its issue 286), and predicts from samples that a point transform has already shifted. Its inverse DCT
//! rounds in another way than that of other DICOM software, so DCT under a lossless transfer syntax, which is met, would
//! differ.

mod dct;
mod entropy;

use dct::inverse_dct;
use entropy::{Bits, Differences, Huffman, read_huffman};

use crate::{
    Error,
    codec::Cells,
    codestream::{JpegHeader, Segments, segments},
};

const CODEC: &str = "JPEG";

/// Whether this module decodes a codestream of this frame header, in a transfer syntax that promises lossless pixels or
/// not.
pub(crate) fn decodes(header: &JpegHeader, lossless_syntax: bool) -> bool {
    header.lossless
        || ((header.precision > 8 || lossless_syntax) && !header.progressive && header.components.len() == 1)
}

/// Decodes to interleaved samples. The header's sizes must have been checked.
pub(crate) fn decode(data: &[u8], header: &JpegHeader) -> Result<Cells, Error> {
    let mut scans = Scans::new(data)?;
    let samples = if !header.lossless {
        let (scan, entropy) = scans.next(&header.components, header)?;
        scan.sequential(entropy, header)?
    } else if header.scan_components == header.components.len() {
        let (scan, entropy) = scans.next(&header.components, header)?;
        scan.lossless(entropy, header)?
    } else {
        // A scan for each component, in their order.
        let count = header.components.len();
        let mut samples = vec![0; header.rows as usize * header.columns as usize * count];
        for (at, component) in header.components.chunks(1).enumerate() {
            let (scan, entropy) = scans.next(component, header)?;
            let plane = scan.lossless(entropy, header)?;
            samples[at..].iter_mut().step_by(count).zip(plane).for_each(|(place, sample)| *place = sample);
        }
        samples
    };
    if header.precision <= 8 {
        Ok(Cells::Eight(samples.into_iter().map(|sample| sample.to_le_bytes()[0]).collect()))
    } else {
        Ok(Cells::Sixteen(samples))
    }
}

fn damaged(what: &str) -> Error {
    Error::codec(CODEC, what)
}

/// The scans of a codestream, with the tables that stand before them, each of which counts until it is replaced.
struct Scans<'a> {
    segments: Segments<'a>,
    huffman: [Option<Huffman>; 8],
    quantization: [Option<[u16; 64]>; 4],
    restart_interval: usize,
}

impl<'a> Scans<'a> {
    fn new(data: &'a [u8]) -> Result<Self, Error> {
        let segments = segments(CODEC, data)?;
        Ok(Self { segments, huffman: Default::default(), quantization: [None; 4], restart_interval: 0 })
    }

    /// The next scan, which must be of these components, and its entropy-coded data with what follows.
    fn next(&mut self, components: &[u8], header: &JpegHeader) -> Result<(Scan, &'a [u8]), Error> {
        loop {
            let (marker, segment) = self.segments.next()?;
            match marker {
                0xc4 => {
                    let read = read_huffman(segment, &mut self.huffman);
                    read.ok_or_else(|| damaged("a Huffman table is malformed"))?;
                }
                0xdb => {
                    let read = read_quantization(segment, &mut self.quantization);
                    read.ok_or_else(|| damaged("a quantization table is malformed"))?;
                }
                0xdd => {
                    let &[high, low] = segment else { return Err(damaged("the restart interval is malformed")) };
                    self.restart_interval = usize::from(u16::from_be_bytes([high, low]));
                }
                0xda => return Ok((self.scan(segment, components, header)?, self.segments.rest())),
                _ => {}
            }
        }
    }

    /// T.81 B.2.3.
    fn scan(&self, segment: &[u8], components: &[u8], header: &JpegHeader) -> Result<Scan, Error> {
        let malformed = || damaged("the scan header is malformed");
        let count = usize::from(*segment.first().ok_or_else(malformed)?);
        let named = segment.get(1..1 + 2 * count).ok_or_else(malformed)?;
        let &[predictor, _, approximation, ..] = &segment[1 + 2 * count..] else { return Err(malformed()) };
        if !named.iter().step_by(2).eq(components) {
            return Err(damaged("a scan is of other components than those that are due"));
        }
        let table = |index: u8| self.huffman.get(usize::from(index)).cloned().flatten();
        let mut tables = Vec::new();
        for (component, quantizer) in named.chunks_exact(2).zip(&header.quantizers) {
            let (dc, ac) = (component[1] >> 4, component[1] & 15);
            let dc = table(dc & 3).ok_or_else(|| damaged("a Huffman table is missing"))?;
            tables.push((dc, table(4 + (ac & 3)), self.quantization[usize::from(quantizer & 3)]));
        }
        let point_transform = u32::from(approximation & 15);
        Ok(Scan { tables, restart_interval: self.restart_interval, predictor, point_transform })
    }
}

/// Everything that stands before the entropy-coded data of a scan.
struct Scan {
    /// For each component of the scan, in order: its DC and AC table, and its quantization table.
    tables: Vec<(Huffman, Option<Huffman>, Option<[u16; 64]>)>,
    restart_interval: usize,
    /// Of a lossless scan.
    predictor: u8,
    /// By how many bits a lossless scan lowered its samples.
    point_transform: u32,
}

impl Scan {
    /// T.81 annex H. The first line of a restart interval is predicted from the left alone, as that of the image.
    fn lossless(&self, entropy: &[u8], header: &JpegHeader) -> Result<Vec<u16>, Error> {
        if header.subsampled {
            return Err(Error::unsupported("lossless JPEG with subsampling"));
        }
        if !(1..=7).contains(&self.predictor) || header.precision > 16 || self.point_transform >= header.precision {
            return Err(damaged("the scan header is malformed"));
        }
        match self.predictor {
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
        let point_transform = self.point_transform;
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
        if !header.restarts {
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
        let header = crate::codestream::jpeg_header(CODEC, &shifted).unwrap();
        assert_eq!(decode(&shifted, &header).unwrap(), Cells::Eight(vec![130, 132, 130, 130]));
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
    fn each_component_may_have_a_scan_of_its_own() {
        let planes = [[0b1011_0100], [0b0010_1011], [0b1000_0011]];
        let alone = planes.map(|entropy| match decoded(&lossless(2, 2, 0, 1, &entropy)).unwrap() {
            Cells::Eight(samples) => samples,
            _ => panic!("8 bits"),
        });
        // Of three components; the first scan has the table that the others use as well.
        let mut data = lossless(2, 2, 0, 1, &planes[0]);
        data.truncate(data.len() - 2);
        data.splice(11..12, [3]);
        data.splice(5..6, [17]);
        data.splice(15..15, [2, 0x11, 0, 3, 0x11, 0]);
        for (component, entropy) in (2u8..).zip(&planes[1..]) {
            data.extend([0xff, 0xda, 0, 8, 1, component, 0, 1, 0, 0]);
            data.extend(entropy);
        }
        data.extend([0xff, 0xd9]);
        let header = crate::codestream::jpeg_header(CODEC, &data).unwrap();
        let interleaved: Vec<u8> = (0..4).flat_map(|at| alone.each_ref().map(|plane| plane[at])).collect();
        assert_eq!(decode(&data, &header).unwrap(), Cells::Eight(interleaved));
        let last = data.len() - 2 - planes[2].len() - 5;
        data[last] = 2;
        assert!(decode(&data, &header).is_err());
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
}
