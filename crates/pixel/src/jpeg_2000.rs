//! JPEG 2000 (ITU-T T.800) and High-Throughput JPEG 2000 (T.814): what a codestream asks of its decoder, known before one
//! runs, and the decoders.
//!
//! Not through dicom-pixeldata: its decoder is OpenJPEG, translated from C, whose faults would be the process's. Both
//! decoders here are free of unsafe code. `hayro-jpeg2000` is the faster one, but knows no high-throughput blocks.

use std::borrow::Cow;

use crate::{Error, codec::Cells, image_pixel::ImagePixel, limits::can_allocate};

const CODEC: &str = "JPEG 2000";

fn damaged(what: &str) -> Error {
    Error::codec(CODEC, what)
}

/// The SIZ segment of a JPEG 2000 codestream (ITU-T T.800 A.5.1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SizHeader {
    pub(crate) rows: u64,
    pub(crate) columns: u64,
    pub(crate) components: u32,
    /// Bits of the first component.
    pub(crate) precision: u32,
    /// Whether its samples are signed.
    pub(crate) signed: bool,
    /// Whether a component is smaller than the image.
    subsampled: bool,
    /// Whether components differ in precision or sign.
    mixed: bool,
    /// Columns and rows of a tile, at most those of the image.
    tile: [u64; 2],
    tiles: u64,
}

/// The codestream inside a JPEG 2000 file (some senders wrap it against PS3.5 A.4.4), and its SIZ segment.
pub(crate) fn header(data: &[u8]) -> Result<(SizHeader, usize), Error> {
    let at = if data.starts_with(&[0xff, 0x4f]) { Some(0) } else { jp2_codestream(data) };
    let at = at.ok_or_else(|| damaged("neither a codestream nor a JP2 file with one"))?;
    let siz = read_siz(&data[at..]).ok_or_else(|| damaged("the SIZ segment is malformed"))?;
    Ok((siz, at))
}

fn read_siz(data: &[u8]) -> Option<SizHeader> {
    if data.get(..4)? != [0xff, 0x4f, 0xff, 0x51] {
        return None;
    }
    let long = |at: usize| long(data, at);
    let components = short(data, 40)?;
    let table = data.get(42..42 + 3 * usize::from(components))?;
    if short(data, 4)? != 38 + 3 * components {
        return None;
    }
    let (right, bottom, left, top) = (long(8)?, long(12)?, long(16)?, long(20)?);
    let (tile_width, tile_height, tile_left, tile_top) = (long(24)?, long(28)?, long(32)?, long(36)?);
    if tile_width == 0 || tile_height == 0 || tile_left > left || tile_top > top {
        return None;
    }
    let (columns, rows) = (right.checked_sub(left)?, bottom.checked_sub(top)?);
    let tiles = (right - tile_left).div_ceil(tile_width) * (bottom - tile_top).div_ceil(tile_height);
    let mut kinds = table.chunks_exact(3).map(|component| component[0]);
    let kind = kinds.next()?;
    Some(SizHeader {
        rows,
        columns,
        components: u32::from(components),
        precision: u32::from(kind & 0x7f) + 1,
        signed: kind & 0x80 != 0,
        subsampled: table.chunks_exact(3).any(|component| component[1..] != [1, 1]),
        mixed: kinds.any(|other| other != kind),
        tile: [tile_width.min(columns), tile_height.min(rows)],
        tiles,
    })
}

fn short(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]))
}

fn long(data: &[u8], at: usize) -> Option<u64> {
    data.get(at..at + 4).map(|b| u64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]])))
}

/// Where the contiguous codestream box of a JP2 file begins.
fn jp2_codestream(data: &[u8]) -> Option<usize> {
    if data.get(4..8)? != b"jP  " {
        return None;
    }
    let mut at: usize = 0;
    loop {
        let head = data.get(at..at.checked_add(8)?)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let (content, length) = match length {
            1 => {
                let long = data.get(at + 8..at + 16)?;
                let long = u64::from_be_bytes([long[0], long[1], long[2], long[3], long[4], long[5], long[6], long[7]]);
                (at + 16, usize::try_from(long).ok()?)
            }
            length => (at + 8, length),
        };
        if &head[4..8] == b"jp2c" {
            return (content < data.len()).then_some(content);
        }
        // A length of 0 means "to the end", so nothing follows; shorter than its own head it would never end.
        at = at.checked_add(length.max(8)).filter(|_| length != 0)?;
    }
}

/// The coding style of a component (COD and COC, T.800 A.6.1 and A.6.2), as far as it decides on memory.
#[derive(Debug, Clone)]
struct Style {
    levels: u32,
    /// Logarithms of a code block's width and height.
    block: [u32; 2],
    /// How many terminated segments a block may have in a layer.
    segments: u64,
    /// By resolution, logarithms of a precinct's width and height; none where it is as large as can be.
    precincts: Vec<[u32; 2]>,
}

impl Style {
    /// `parameters`: from the number of decomposition levels on, nothing more.
    fn read(parameters: &[u8], own_precincts: bool) -> Option<Self> {
        let &[levels, width, height, style, _, ref precincts @ ..] = parameters else { return None };
        let due = if own_precincts { usize::from(levels) + 1 } else { 0 };
        if levels > 32 || width > 8 || height > 8 || width + height > 8 || precincts.len() != due {
            return None;
        }
        let segments = match style {
            _ if style & 4 != 0 => 3 * 32,
            _ if style & 1 != 0 => 2 * 32,
            _ => 1,
        };
        Some(Self {
            levels: levels.into(),
            block: [u32::from(width) + 2, u32::from(height) + 2],
            segments,
            precincts: precincts.iter().map(|size| [u32::from(size & 15), u32::from(size >> 4)]).collect(),
        })
    }

    /// How many code blocks and precincts a component of a tile has, at most.
    fn parts(&self, tile: [u64; 2]) -> (u64, u64) {
        let (mut blocks, mut precincts) = (0u64, 0u64);
        for resolution in 0..=self.levels {
            // Beyond the first resolution there are three sub-bands of half the width and height.
            let (bands, halved) = if resolution == 0 { (1, 0) } else { (3, 1) };
            let [by_column, by_row] = self.precincts.get(resolution as usize).copied().unwrap_or([15, 15]);
            let count = |length: u64, logarithm: u32| {
                let of_resolution = length.div_ceil(1 << (self.levels - resolution).min(40));
                (of_resolution >> logarithm).saturating_add(2)
            };
            let block_count = |axis: usize, precinct: u32| {
                count(tile[axis], self.block[axis].min(precinct.saturating_sub(halved)) + halved)
            };
            blocks = blocks
                .saturating_add(block_count(0, by_column).saturating_mul(block_count(1, by_row)).saturating_mul(bands));
            precincts = precincts
                .saturating_add(count(tile[0], by_column).saturating_mul(count(tile[1], by_row)).saturating_mul(bands));
        }
        (blocks, precincts)
    }
}

/// What the marker segments of a codestream ask of its decoder.
struct Structure {
    /// Every coding style that one of its tiles may use.
    styles: Vec<Style>,
    layers: u64,
    high_throughput: bool,
    /// Where the last tile-part begins, if its length is left open.
    open_tile_part: Option<usize>,
}

impl Structure {
    /// Reads the main header and every tile-part header (T.800 A.2). Segments whose length is not that of their contents
    /// are refused, because decoders go by either.
    fn read(data: &[u8], components: u32) -> Option<Self> {
        let mut structure = Self { styles: Vec::new(), layers: 0, high_throughput: false, open_tile_part: None };
        let mut at = structure.segments(data, 2, components, 0xff90)?;
        while short(data, at)? == 0xff90 {
            let length = usize::try_from(long(data, at + 6)?).ok()?;
            let header_end = structure.segments(data, at + 12, components, 0xff93)?;
            if length == 0 {
                structure.open_tile_part = Some(at);
                break;
            }
            let next = at.checked_add(length)?;
            if next < header_end + 2 || next > data.len() {
                return None;
            }
            at = next;
            if at == data.len() {
                break;
            }
        }
        Some(structure)
    }

    /// Walks segments up to the marker `last`, and answers where that is.
    fn segments(&mut self, data: &[u8], mut at: usize, components: u32, last: u16) -> Option<usize> {
        loop {
            let marker = short(data, at)?;
            if marker == last {
                return Some(at);
            }
            if matches!(marker, 0xff30..=0xff3f) {
                at += 2;
                continue;
            }
            if !matches!(marker, 0xff50..=0xff6f) {
                return None;
            }
            let length = usize::from(short(data, at + 2)?);
            let segment = data.get(at + 4..at + 2 + length)?;
            self.segment(marker, segment, components)?;
            at += 2 + length;
        }
    }

    fn segment(&mut self, marker: u16, segment: &[u8], components: u32) -> Option<()> {
        match marker {
            0xff50 => self.high_throughput = true,
            0xff52 => {
                let &[flags, _, high, low, _, ref parameters @ ..] = segment else { return None };
                self.layers = self.layers.max(u16::from_be_bytes([high, low]).into());
                self.styles.push(Style::read(parameters, flags & 1 != 0)?);
            }
            0xff53 => {
                let index = if components < 257 { 1 } else { 2 };
                let (flags, parameters) = segment.get(index..)?.split_first()?;
                self.styles.push(Style::read(parameters, flags & 1 != 0)?);
            }
            _ => {}
        }
        Some(())
    }

    /// Bytes that a decoder holds at most, roughly: measured on both, rounded up.
    fn memory(&self, siz: &SizHeader, bytes: usize) -> u64 {
        const PER_SAMPLE: u64 = 6;
        const PER_TILE_SAMPLE: u64 = 20;
        const PER_BLOCK: u64 = 240;
        const PER_LAYER_OF_BLOCK: u64 = 24;
        const PER_SEGMENT: u64 = 48;
        const PER_PRECINCT: u64 = 160;
        const PER_TILE: u64 = 400;
        let components = u64::from(siz.components);
        let parts = self.styles.iter().map(|style| (style.parts(siz.tile), style.segments));
        let (mut blocks, mut precincts, mut segments) = (0, 0, 0);
        for ((in_style, precincts_in_style), per_layer) in parts {
            blocks = blocks.max(in_style);
            precincts = precincts.max(precincts_in_style);
            segments = segments.max(in_style.saturating_mul(per_layer).saturating_mul(self.layers));
        }
        // Each segment has three bits in a packet header, at least.
        let segments = segments.saturating_mul(components).min(bytes as u64 * 8 / 3);
        let blocks = blocks.saturating_mul(components);
        let samples = siz.rows.saturating_mul(siz.columns).saturating_mul(components);
        let tile_samples = siz.tile[0].saturating_mul(siz.tile[1]);
        [
            samples.saturating_mul(PER_SAMPLE),
            tile_samples.saturating_mul(PER_TILE_SAMPLE),
            blocks.saturating_mul(PER_BLOCK + PER_LAYER_OF_BLOCK * self.layers),
            segments.saturating_mul(PER_SEGMENT),
            precincts.saturating_mul(components).saturating_mul(PER_PRECINCT),
            siz.tiles.saturating_mul(PER_TILE * (1 + components)),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// Decodes a codestream whose sizes are those of the header: samples in cells of `image`'s bits, at most 16, negative
/// ones in two's complement. `memory`: how many bytes the decoder may hold.
pub(crate) fn decode(data: &[u8], siz: &SizHeader, image: &ImagePixel, memory: u64) -> Result<Cells, Error> {
    if siz.subsampled || siz.mixed {
        return Err(Error::unsupported("JPEG 2000 with components of different sizes or precisions"));
    }
    if siz.precision > 16 {
        return Err(Error::unsupported("JPEG 2000 of more than 16 bits"));
    }
    let structure =
        Structure::read(data, siz.components).ok_or_else(|| damaged("a marker segment is malformed or cut short"))?;
    let due = structure.memory(siz, data.len());
    if due > memory {
        return Err(Error::TooLarge { what: "bytes for a JPEG 2000 decoder", found: due, limit: memory });
    }
    can_allocate(due)?;
    if structure.layers > 32 {
        return Err(Error::unsupported("JPEG 2000 of more than 32 layers"));
    }
    let whole = completed(data, &structure);
    if structure.high_throughput { high_throughput(&whole, siz, image) } else { part_1(&whole, siz, image) }
}

/// The codestream with an end, and with a length of its last tile-part: the decoders are strict, encoders are not.
fn completed<'a>(data: &'a [u8], structure: &Structure) -> Cow<'a, [u8]> {
    const END_OF_CODESTREAM: [u8; 2] = [0xff, 0xd9];
    // Zeros after the end are padding; within the last packet they are followed by the end.
    let length = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let ended = data[..length].ends_with(&END_OF_CODESTREAM);
    if ended && structure.open_tile_part.is_none() {
        return Cow::Borrowed(data);
    }
    let end = if ended { length - 2 } else { data.len() };
    let mut whole = [&data[..end], &END_OF_CODESTREAM].concat();
    if let Some(at) = structure.open_tile_part
        && let Ok(length) = u32::try_from(end - at)
    {
        whole[at + 6..at + 10].copy_from_slice(&length.to_be_bytes());
    }
    Cow::Owned(whole)
}

fn part_1(data: &[u8], siz: &SizHeader, image: &ImagePixel) -> Result<Cells, Error> {
    use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

    let settings = DecodeSettings { resolve_palette_indices: false, strict: true, target_resolution: None };
    let codestream = Image::new(data, &settings).map_err(|error| Error::codec(CODEC, error))?;
    let mut context = DecoderContext::default();
    let decoded = codestream.decode(&mut context).map_err(|error| Error::codec(CODEC, error))?;
    let planes: Vec<&[f32]> = decoded.components().iter().map(|component| component.samples()).collect();
    if planes.len() != image.samples as usize || planes.iter().any(|plane| plane.len() != image.pixels()) {
        return Err(damaged("the image is not of its size"));
    }
    // The decoder moves samples up by half of the range, signed ones too.
    let half = 1i32 << (siz.precision - 1);
    let (offset, highest) = (if siz.signed { half } else { 0 }, 2 * half - 1);
    // Truncated where it cannot be negative, which is rounding down without a call for each sample; NaN becomes 0.
    #[expect(clippy::cast_possible_truncation)] // far less than 32 bits
    let value = |sample: f32| ((sample + 0.5).max(0.0) as i32).min(highest) - offset;
    Ok(if image.bits_allocated <= 8 {
        Cells::Eight(interleaved(&planes, |sample| value(sample).to_le_bytes()[0]))
    } else {
        Cells::Sixteen(interleaved(&planes, |sample| low_word(value(sample))))
    })
}

fn low_word(value: i32) -> u16 {
    let [low, high, ..] = value.to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn interleaved<T: Copy + Default>(planes: &[&[f32]], value: impl Fn(f32) -> T) -> Vec<T> {
    if let [plane] = planes {
        return plane.iter().map(|sample| value(*sample)).collect();
    }
    let mut cells = vec![T::default(); planes.iter().map(|plane| plane.len()).sum()];
    for (index, plane) in planes.iter().enumerate() {
        let places = cells[index..].iter_mut().step_by(planes.len());
        places.zip(*plane).for_each(|(place, sample)| *place = value(*sample));
    }
    cells
}

fn high_throughput(data: &[u8], siz: &SizHeader, image: &ImagePixel) -> Result<Cells, Error> {
    use dicom_toolkit_jpeg2000::{DecodeSettings, Image};

    let settings = DecodeSettings { resolve_palette_indices: false, strict: true, target_resolution: None };
    let codestream = Image::new(data, &settings).map_err(|error| Error::codec(CODEC, error))?;
    let decoded = codestream.decode_native().map_err(|error| Error::codec(CODEC, error))?;
    if u32::from(decoded.num_components) != image.samples {
        return Err(damaged("the image is not of its size"));
    }
    // This one, too, moves signed samples up.
    let offset = if siz.signed { 1i32 << (siz.precision - 1) } else { 0 };
    let bytes = decoded.data;
    let word = |b: &[u8]| low_word(i32::from(u16::from_le_bytes([b[0], b[1]])) - offset);
    Ok(match (decoded.bytes_per_sample, image.bits_allocated) {
        (1, ..=8) if offset == 0 => Cells::Eight(bytes),
        (1, ..=8) => Cells::Eight(bytes.iter().map(|byte| (i32::from(*byte) - offset).to_le_bytes()[0]).collect()),
        (1, _) => Cells::Sixteen(bytes.iter().map(|byte| low_word(i32::from(*byte) - offset)).collect()),
        _ => Cells::Sixteen(bytes.chunks_exact(2).map(word).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_that_lead_nowhere_end() {
        for bytes in [&b"\0\0\0\x0cjP  \r\n\x87\n"[..], b"\0\0\0\0jP  ", b"\0\0\0\x01jP  ", b"\0\0\0\x02jP  \0\0\0\x01"]
        {
            assert_eq!(jp2_codestream(bytes), None);
        }
    }
}
