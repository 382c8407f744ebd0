//! What a JPEG or JPEG-LS frame says about itself, read before a decoder allocates by it.

use crate::Error;

/// The frame header of a JPEG or JPEG-LS codestream (ITU-T T.81 annex B, T.87 annex C).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct JpegHeader {
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    pub(crate) precision: u32,
    /// Component identifiers, in order.
    pub(crate) components: Vec<u8>,
    /// The quantization table of each component.
    pub(crate) quantizers: Vec<u8>,
    /// Whether components differ in their sampling.
    pub(crate) subsampled: bool,
    /// Whether the process is the lossless one with Huffman codes (SOF3), which knows no colour transform.
    pub(crate) lossless: bool,
    /// Whether it is a process other than the sequential ones with Huffman codes, and than JPEG-LS.
    pub(crate) progressive: bool,
    pub(crate) jfif: bool,
    /// The colour transform of an Adobe APP14 segment: 0 none, 1 YCbCr.
    pub(crate) adobe_transform: Option<u8>,
    /// JPEG-LS interleave mode 0: one scan per component.
    pub(crate) planar: bool,
    /// Whether restart markers divide a scan.
    pub(crate) restarts: bool,
    /// Components of the first scan.
    pub(crate) scan_components: usize,
    /// The predictor of a lossless scan, NEAR of a JPEG-LS scan: the first one's.
    pub(crate) predictor: u8,
}

/// The marker segments of a JPEG codestream, one after another.
pub(crate) struct Segments<'a> {
    codec: &'static str,
    rest: &'a [u8],
}

/// Begins after the start-of-image marker.
pub(crate) fn segments<'a>(codec: &'static str, data: &'a [u8]) -> Result<Segments<'a>, Error> {
    let rest = data.strip_prefix(&[0xff, 0xd8]);
    let rest = rest.ok_or_else(|| Error::codec(codec, "the codestream does not begin with a start-of-image marker"))?;
    Ok(Segments { codec, rest })
}

impl<'a> Segments<'a> {
    /// Goes on from another place, after a scan.
    pub(crate) fn at(codec: &'static str, rest: &'a [u8]) -> Self {
        Self { codec, rest }
    }

    /// The next marker and its segment. Errors at the end: a scan must come before it.
    pub(crate) fn next(&mut self) -> Result<(u8, &'a [u8]), Error> {
        let cut = || Error::codec(self.codec, "the codestream ends before its first scan");
        loop {
            let [0xff, marker, after @ ..] = self.rest else {
                self.rest = self.rest.split_first().ok_or_else(cut)?.1;
                continue;
            };
            match marker {
                // Fill bytes, stuffed zeros, restart markers and TEM have no length.
                0xff => self.rest = &self.rest[1..],
                0x00 | 0x01 | 0xd0..=0xd8 => self.rest = after,
                0xd9 => return Err(cut()),
                _ => {
                    let length = after.get(..2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
                    let length = length.ok_or_else(cut)?;
                    let segment = after.get(2..length).ok_or_else(cut)?;
                    self.rest = &after[length..];
                    return Ok((*marker, segment));
                }
            }
        }
    }

    /// What follows the last segment.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Reads marker segments up to the first scan.
pub(crate) fn jpeg_header(codec: &'static str, data: &[u8]) -> Result<JpegHeader, Error> {
    let malformed = || Error::codec(codec, "the frame header or the scan header is malformed");
    let mut header = JpegHeader::default();
    let mut segments = segments(codec, data)?;
    loop {
        let (marker, segment) = segments.next()?;
        match marker {
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf | 0xf7 => {
                if header.rows > 0 {
                    return Err(Error::codec(codec, "the codestream has two frame headers"));
                }
                read_frame_header(marker, segment, &mut header).ok_or_else(malformed)?;
            }
            // JPEG-LS preset parameters of type 4 replace the size of the frame header.
            0xf8 if segment.first() == Some(&4) => {
                return Err(Error::codec(codec, "oversize image dimensions are not supported"));
            }
            0xe0 => header.jfif |= segment.starts_with(b"JFIF\0"),
            0xee if segment.starts_with(b"Adobe") => header.adobe_transform = segment.get(11).copied(),
            0xdd => header.restarts = segment.iter().any(|byte| *byte != 0),
            0xda => {
                let components = usize::from(*segment.first().ok_or_else(malformed)?);
                let &[predictor, interleave, _, ..] = segment.get(1 + 2 * components..).ok_or_else(malformed)? else {
                    return Err(malformed());
                };
                header.planar = interleave == 0;
                (header.scan_components, header.predictor) = (components, predictor);
                return if header.rows > 0 { Ok(header) } else { Err(malformed()) };
            }
            _ => {}
        }
    }
}

fn read_frame_header(marker: u8, segment: &[u8], header: &mut JpegHeader) -> Option<()> {
    let &[precision, r1, r0, c1, c0, count, ref components @ ..] = segment else { return None };
    header.precision = u32::from(precision);
    header.rows = u32::from(u16::from_be_bytes([r1, r0]));
    header.columns = u32::from(u16::from_be_bytes([c1, c0]));
    let components: Vec<&[u8]> = components.chunks_exact(3).take(usize::from(count)).collect();
    header.components = components.iter().map(|component| component[0]).collect();
    header.quantizers = components.iter().map(|component| component[2]).collect();
    header.subsampled = components.windows(2).any(|pair| pair[0][1] != pair[1][1]);
    header.lossless = marker == 0xc3;
    header.progressive = !matches!(marker, 0xc0 | 0xc1 | 0xc3 | 0xf7);
    (header.rows > 0 && header.components.len() == usize::from(count)).then_some(())
}

/// The JPEG with ones before its end. jpeg-decoder reads a scan that was cut short as if zeros followed, so that grey
/// fills the image; no Huffman code is all ones (T.81 annex C), so with these it is an error.
pub(crate) fn ending_in_ones(data: &[u8]) -> Vec<u8> {
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    // Stuffed, as in any scan: as many as two codes and their further bits have at most.
    const ONES: [u8; 16] = [0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0];
    let end = data.windows(2).rposition(|pair| pair == END_OF_IMAGE).unwrap_or(data.len());
    // Fill bytes before a marker must not become part of the ones.
    let end = data[..end].iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
    [&data[..end], &ONES, &END_OF_IMAGE].concat()
}

/// Calls the three components of a JPEG "R", "G" and "B", which jpeg-decoder takes for: as coded. Left alone it decides on
/// a colour transform by the component identifiers before it looks at an Adobe segment, and never at the DICOM header:
/// RGB without a transform came out as if it were YCbCr.
pub(crate) fn name_as_coded(codec: &'static str, data: &mut [u8]) -> Result<(), Error> {
    let mut places = Vec::new();
    let mut identifiers: Vec<u8> = Vec::new();
    let mut segments = segments(codec, data)?;
    // Ends with the codestream, whose last marker has no segment.
    while let Ok((marker, segment)) = segments.next() {
        let begin = data.len() - segments.rest().len() - segment.len();
        let count = |at: usize| segment.get(at).map_or(0, |count| usize::from(*count).min(3));
        let (first, step, count) = match marker {
            0xc0..=0xc2 => (6, 3, count(5)),
            0xda => (1, 2, count(0)),
            _ => continue,
        };
        for (at, identifier) in segment.iter().enumerate().skip(first).step_by(step).take(count) {
            if marker != 0xda {
                identifiers.push(*identifier);
            }
            places.extend(identifiers.iter().position(|known| known == identifier).map(|index| (begin + at, index)));
        }
    }
    for (at, index) in places {
        data[at] = b"RGB"[index.min(2)];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_says_its_size_and_colour() {
        let mut data = vec![0xff, 0xd8, 0xff, 0xe0, 0, 7, b'J', b'F', b'I', b'F', 0];
        data.extend([0xff, 0xc0, 0, 17, 8, 0, 96, 0, 128, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1]);
        data.extend([0xff, 0xda, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0]);
        let header = jpeg_header("JPEG", &data).unwrap();
        assert_eq!((header.rows, header.columns, header.precision), (96, 128, 8));
        assert_eq!(header.components, [1, 2, 3]);
        assert!(header.jfif && !header.lossless);
        for cut in 0..data.len() - 1 {
            assert!(jpeg_header("JPEG", &data[..cut]).is_err());
        }
    }
}
