//! RLE Lossless (PS3.5 annex G), decoded within the size that the header gives.

use crate::{Error, codec::Cells, image_pixel::ImagePixel};

const CODEC: &str = "RLE";
const HEADER_BYTES: usize = 64;

/// Decodes one frame to interleaved samples.
pub(crate) fn decode(data: &[u8], image: &ImagePixel) -> Result<Cells, Error> {
    let bytes_per_sample = match image.bits_allocated {
        8 => 1,
        16 => 2,
        32 => 4,
        bits => return Err(Error::unsupported(format!("RLE with Bits Allocated {bits}"))),
    };
    let samples = image.samples as usize;
    let segments = segments(data, samples * bytes_per_sample)?;
    let mut bytes = vec![0; image.frame_samples() * bytes_per_sample];
    for (number, segment) in segments.into_iter().enumerate() {
        // The segments of a sample come most significant byte first; we write little endian, samples interleaved.
        let (sample, byte) = (number / bytes_per_sample, bytes_per_sample - 1 - number % bytes_per_sample);
        unpack(segment, &mut bytes, sample * bytes_per_sample + byte, samples * bytes_per_sample)?;
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

/// PackBits: writes every `step`-th byte from `at`; what exceeds the frame is padding and dropped.
fn unpack(segment: &[u8], to: &mut [u8], at: usize, step: usize) -> Result<(), Error> {
    let mut places = to.iter_mut().skip(at).step_by(step);
    let mut left = places.len();
    let mut rest = segment;
    while left > 0 {
        let [head, after @ ..] = rest else {
            return Err(Error::codec(CODEC, "a segment ends before the frame is full"));
        };
        rest = after;
        let length = usize::from(*head);
        match head {
            0..=127 => {
                let run = (length + 1).min(rest.len());
                for (value, place) in rest[..run].iter().zip(places.by_ref().take(run)) {
                    *place = *value;
                }
                rest = &rest[run..];
                left = left.saturating_sub(run);
            }
            // No operation (PS3.5 G.3.1).
            128 => {}
            129..=255 => {
                let Some((value, after)) = rest.split_first() else { continue };
                let run = 257 - length;
                places.by_ref().take(run).for_each(|place| *place = *value);
                rest = after;
                left = left.saturating_sub(run);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Apple's PackBits note, which PS3.5 annex G follows.
    #[test]
    fn pack_bits_unpacks() {
        let packed = [0xfe, 0xaa, 0x02, 0x80, 0x00, 0x2a, 0xfd, 0xaa, 0x03, 0x80, 0x00, 0x2a, 0x22, 0xf7, 0xaa];
        let mut bytes = [0; 24];
        unpack(&packed, &mut bytes, 0, 1).unwrap();
        assert_eq!(
            bytes,
            [
                0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0xaa, 0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0x22, 0xaa, 0xaa, 0xaa,
                0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa
            ]
        );
        assert!(unpack(&packed, &mut [0; 25], 0, 1).is_err());
    }
}
