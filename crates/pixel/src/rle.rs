//! RLE Lossless (PS3.5 annex G), checked before dicom-pixeldata unpacks it.
//!
//! Measured on its adapter: it allocates by the number of segments that the frame claims, unpacks a segment to
//! whatever length it has, panics on one that is too short, and knows cells of 8 and 16 bits only.

use crate::{
    Error,
    adapter::{self, Layout},
    codec::Cells,
    image_pixel::ImagePixel,
};

const CODEC: &str = "RLE";
const HEADER_BYTES: usize = 64;

/// Decodes one frame to interleaved samples.
pub(crate) fn decode(syntax: &str, data: &[u8], image: &ImagePixel) -> Result<Cells, Error> {
    let layout = match image.bits_allocated {
        8 | 16 => Layout::of(image, image.bits_allocated),
        // The four segments of a 32-bit sample are those of two samples of 16 bits.
        32 => Layout { samples: image.samples * 2, ..Layout::of(image, 16) },
        bits => return Err(Error::unsupported(format!("RLE with Bits Allocated {bits}"))),
    };
    let segments = segments(data, (layout.samples * layout.bits / 8) as usize)?;
    let checked = reassembled(&segments, image.pixels(), adapter::least_bytes(layout))?;
    let bytes = adapter::encapsulated(CODEC, syntax, checked.into(), layout)?;
    if image.bits_allocated == 32 {
        // The more significant half comes first.
        let halves = |b: &[u8]| u32::from_le_bytes([b[2], b[3], b[0], b[1]]);
        return Ok(Cells::ThirtyTwo(bytes.chunks_exact(4).map(halves).collect()));
    }
    Cells::from_bytes(bytes, image.bits_allocated)
}

/// The bytes of each segment, by the offsets of the RLE header.
fn segments(data: &[u8], due: usize) -> Result<Vec<&[u8]>, Error> {
    let word = |index: usize| {
        let bytes = data.get(index * 4..index * 4 + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    if data.len() < HEADER_BYTES {
        return Err(Error::codec(CODEC, "the header is cut short"));
    }
    if word(0) != Some(due) {
        return Err(Error::codec(CODEC, "the number of segments does not fit the header"));
    }
    let offset = |index: usize| if index < due { word(index + 1) } else { Some(data.len()) };
    (0..due)
        .map(|index| {
            let (start, end) = offset(index).zip(offset(index + 1))?;
            if start < HEADER_BYTES { None } else { data.get(start..end) }
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Error::codec(CODEC, "a segment offset lies outside the frame"))
}

/// The frame again, of at least `least` bytes, each segment cut where its pixels are complete: what follows is padding.
fn reassembled(segments: &[&[u8]], pixels: usize, least: usize) -> Result<Vec<u8>, Error> {
    let number = |number: usize| u32::try_from(number).map_err(|_| Error::unsupported("an RLE frame of 4 GiB"));
    let cut = segments.iter().map(|segment| Some(&segment[..packed_length(segment, pixels)?]));
    let cut: Vec<&[u8]> =
        cut.collect::<Option<_>>().ok_or_else(|| Error::codec(CODEC, "a segment ends before the frame is full"))?;
    let mut offset = HEADER_BYTES.max(least.saturating_sub(cut.iter().map(|segment| segment.len()).sum()));
    let mut frame = number(cut.len())?.to_le_bytes().to_vec();
    for segment in &cut {
        frame.extend(number(offset)?.to_le_bytes());
        offset += segment.len();
    }
    let begin = offset - cut.iter().map(|segment| segment.len()).sum::<usize>();
    frame.resize(begin, 0);
    cut.iter().for_each(|segment| frame.extend_from_slice(segment));
    Ok(frame)
}

/// How many bytes of a PackBits segment make `pixels` bytes; nothing when all of it makes fewer.
fn packed_length(segment: &[u8], pixels: usize) -> Option<usize> {
    let (mut at, mut left) = (0, pixels);
    while left > 0 {
        let head = usize::from(*segment.get(at)?);
        let rest = segment.len() - at - 1;
        let (bytes, run) = match head {
            0..=127 => ((head + 1).min(rest), (head + 1).min(rest)),
            // No operation (PS3.5 G.3.1).
            128 => (0, 0),
            _ if rest == 0 => return None,
            _ => (1, 257 - head),
        };
        at += 1 + bytes;
        left = left.saturating_sub(run);
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Apple's PackBits note, which PS3.5 annex G follows: 24 bytes unpacked.
    const PACKED: [u8; 15] = [0xfe, 0xaa, 0x02, 0x80, 0x00, 0x2a, 0xfd, 0xaa, 0x03, 0x80, 0x00, 0x2a, 0x22, 0xf7, 0xaa];
    const UNPACKED: [u8; 24] = [
        0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0xaa, 0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0x22, 0xaa, 0xaa, 0xaa, 0xaa,
        0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
    ];
    const SYNTAX: &str = "1.2.840.10008.1.2.5";

    fn image(rows: u32, bits: u32) -> ImagePixel {
        ImagePixel::grey(rows, 1, bits)
    }

    fn frame(segments: &[&[u8]]) -> Vec<u8> {
        let mut frame = u32::try_from(segments.len()).unwrap().to_le_bytes().to_vec();
        let mut offset = 64;
        for segment in segments {
            frame.extend(u32::try_from(offset).unwrap().to_le_bytes());
            offset += segment.len();
        }
        frame.resize(64, 0);
        frame.extend(segments.concat());
        frame
    }

    #[test]
    fn pack_bits_unpacks() {
        assert_eq!(decode(SYNTAX, &frame(&[&PACKED]), &image(24, 8)).unwrap(), Cells::Eight(UNPACKED.to_vec()));
        assert!(decode(SYNTAX, &frame(&[&PACKED]), &image(25, 8)).is_err());
    }

    #[test]
    fn a_cell_of_32_bits_has_its_most_significant_byte_first() {
        let of = |value: u8| [0xff, value];
        let (a, b, c, d) = (of(1), of(2), of(3), of(4));
        let cells = decode(SYNTAX, &frame(&[&a, &b, &c, &d]), &image(2, 32)).unwrap();
        assert_eq!(cells, Cells::ThirtyTwo(vec![0x0102_0304; 2]));
    }

    #[test]
    fn what_follows_the_last_pixel_is_not_unpacked() {
        // A run whose value is missing, which the adapter refuses, and a megabyte of runs.
        let packed = [&PACKED[..], &[0x81]].concat();
        assert_eq!(decode(SYNTAX, &frame(&[&packed]), &image(24, 8)).unwrap(), Cells::Eight(UNPACKED.to_vec()));
        let packed = [&PACKED[..], &[0x81; 1 << 20]].concat();
        assert_eq!(reassembled(&[&packed], 24, 0).unwrap().len(), 64 + PACKED.len());
    }

    #[test]
    fn an_empty_radiograph_is_one() {
        let packed = [0x81, 0].repeat((4096 * 4096usize).div_ceil(128));
        let image = ImagePixel::grey(4096, 4096, 8);
        assert_eq!(decode(SYNTAX, &frame(&[&packed]), &image).unwrap(), Cells::Eight(vec![0; 4096 * 4096]));
    }
}
