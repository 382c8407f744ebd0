//! RLE Lossless (PS3.5 annex G).
//!
//! Not through dicom-pixeldata. Measured on its adapter: it allocates by the number of segments that the frame claims,
//! unpacks a segment to whatever length it has, panics on one that is too short, and knows cells of 8 and 16 bits only.

use std::ops::BitOrAssign;

use crate::{Error, codec::Cells, image_pixel::ImagePixel};

const CODEC: &str = "RLE";
const HEADER_BYTES: usize = 64;

/// Decodes one frame to interleaved samples.
pub(crate) fn decode(data: &[u8], image: &ImagePixel) -> Result<Cells, Error> {
    let cell_bytes = match image.bits_allocated {
        bits @ (8 | 16 | 24 | 32) => bits as usize / 8,
        bits => return Err(Error::unsupported(format!("RLE with Bits Allocated {bits}"))),
    };
    let (pixels, samples) = (image.pixels(), image.samples as usize);
    let segments = segments(data, samples * cell_bytes)?;
    Ok(match (segments.as_slice(), cell_bytes) {
        ([segment], 1) => {
            let mut cells = vec![0; pixels];
            unpack(segment, &mut cells)?;
            Cells::Eight(cells)
        }
        (segments, 1) => Cells::Eight(combined(segments, pixels, 1, |byte, _| byte)?),
        (segments, 2) => Cells::Sixteen(combined(segments, pixels, 2, |byte, place| u16::from(byte) << (8 * place))?),
        (segments, _) => {
            Cells::ThirtyTwo(combined(segments, pixels, cell_bytes, |byte, place| u32::from(byte) << (8 * place))?)
        }
    })
}

/// Of each sample the planes of its bytes, the most significant one first (PS3.5 G.2), as interleaved cells.
fn combined<T: Copy + Default + BitOrAssign>(
    segments: &[&[u8]],
    pixels: usize,
    cell_bytes: usize,
    cell: impl Fn(u8, usize) -> T,
) -> Result<Vec<T>, Error> {
    let samples = segments.len() / cell_bytes;
    let mut cells = vec![T::default(); pixels * samples];
    let mut plane = vec![0; pixels];
    for (index, segment) in segments.iter().enumerate() {
        unpack(segment, &mut plane)?;
        let (sample, place) = (index / cell_bytes, cell_bytes - 1 - index % cell_bytes);
        let cells = cells[sample..].iter_mut().step_by(samples);
        cells.zip(&plane).for_each(|(to, byte)| *to |= cell(*byte, place));
    }
    Ok(cells)
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

/// Unpacks a segment (PS3.5 G.3.1) until the plane is full: what follows is padding.
fn unpack(segment: &[u8], plane: &mut [u8]) -> Result<(), Error> {
    let short = || Error::codec(CODEC, "a segment ends before the frame is full");
    let (mut left, mut packed) = (plane, segment);
    while !left.is_empty() {
        let (head, rest) = packed.split_first().ok_or_else(short)?;
        match usize::from(*head) {
            head @ 0..=127 => {
                let length = (head + 1).min(left.len());
                let literal = rest.get(..length).ok_or_else(short)?;
                let (here, after) = left.split_at_mut(length);
                here.copy_from_slice(literal);
                (left, packed) = (after, &rest[length..]);
            }
            // No operation.
            128 => packed = rest,
            head => {
                let (value, after_value) = rest.split_first().ok_or_else(short)?;
                let (here, after) = left.split_at_mut((257 - head).min(left.len()));
                here.fill(*value);
                (left, packed) = (after, after_value);
            }
        }
    }
    Ok(())
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
        assert_eq!(decode(&frame(&[&PACKED]), &image(24, 8)).unwrap(), Cells::Eight(UNPACKED.to_vec()));
        assert!(decode(&frame(&[&PACKED]), &image(25, 8)).is_err());
    }

    #[test]
    fn a_cell_has_its_most_significant_byte_first() {
        let of = |value: u8| [0xff, value];
        let (a, b, c, d) = (of(1), of(2), of(3), of(4));
        let cells = decode(&frame(&[&a, &b, &c, &d]), &image(2, 32)).unwrap();
        assert_eq!(cells, Cells::ThirtyTwo(vec![0x0102_0304; 2]));
        let cells = decode(&frame(&[&a, &b, &c]), &image(2, 24)).unwrap();
        assert_eq!(cells, Cells::ThirtyTwo(vec![0x0001_0203; 2]));
        let colour = ImagePixel { samples: 3, ..image(2, 16) };
        let cells = decode(&frame(&[&a, &b, &c, &d, &a, &b]), &colour).unwrap();
        assert_eq!(cells, Cells::Sixteen([0x0102, 0x0304, 0x0102].repeat(2)));
    }

    #[test]
    fn what_follows_the_last_pixel_is_not_unpacked() {
        // A run whose value is missing, and a megabyte of runs.
        for tail in [&[0x81][..], &[0x81; 1 << 20]] {
            let packed = [&PACKED[..], tail].concat();
            assert_eq!(decode(&frame(&[&packed]), &image(24, 8)).unwrap(), Cells::Eight(UNPACKED.to_vec()));
        }
        // Neither is a literal that is longer than what is left.
        assert_eq!(decode(&frame(&[&[5, 1, 2, 3]]), &image(3, 8)).unwrap(), Cells::Eight(vec![1, 2, 3]));
    }

    #[test]
    fn an_empty_radiograph_is_one() {
        let packed = [0x81, 0].repeat((4096 * 4096usize).div_ceil(128));
        let image = ImagePixel::grey(4096, 4096, 8);
        assert_eq!(decode(&frame(&[&packed]), &image).unwrap(), Cells::Eight(vec![0; 4096 * 4096]));
    }
}
