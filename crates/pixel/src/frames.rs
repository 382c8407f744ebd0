//! Where the bytes of one frame are: in native pixel data, or in the fragments of encapsulated pixel data (PS3.5 A.4).

use std::borrow::Cow;

use dataset::{Instance, NativePixels, tags};
use dicom_core::{
    PrimitiveValue,
    value::{PixelFragmentSequence, Value},
};

use crate::{Error, image_pixel::ImagePixel};

type Fragments = PixelFragmentSequence<Vec<u8>>;

/// Pixel Data as it stands in the data set.
pub(crate) enum PixelData<'a> {
    Native(Native<'a>),
    Encapsulated(&'a Fragments),
}

/// Native pixel data: a value of the data set, or what was left on the disk.
#[derive(Clone, Copy)]
pub(crate) enum Native<'a> {
    Value(&'a PrimitiveValue),
    OnDisk(&'a NativePixels),
}

impl<'a> Native<'a> {
    /// How many bytes there are.
    pub(crate) fn byte_length(self) -> usize {
        match self {
            Self::Value(value) => byte_length(value),
            Self::OnDisk(pixels) => usize::try_from(pixels.bytes()).unwrap_or(usize::MAX),
        }
    }

    /// Bytes `start..end`, in little endian order, copying as little as possible.
    pub(crate) fn bytes(self, start: usize, end: usize) -> Result<Cow<'a, [u8]>, Error> {
        match self {
            Self::Value(value) => bytes_of(value, start, end),
            Self::OnDisk(pixels) if end as u64 > pixels.bytes() => {
                Err(Error::Truncated { expected: end as u64, available: pixels.bytes() })
            }
            Self::OnDisk(pixels) => {
                let read = pixels.read(start as u64, end as u64);
                read.map(Cow::Owned).map_err(|error| Error::Unreadable(error.to_string()))
            }
        }
    }

    /// The value as 16-bit words, where it is in memory as such.
    pub(crate) fn words(self) -> Option<&'a [u16]> {
        match self {
            Self::Value(PrimitiveValue::U16(words)) => Some(words),
            _ => None,
        }
    }
}

impl<'a> PixelData<'a> {
    pub(crate) fn of(instance: &'a Instance) -> Result<Self, Error> {
        if let Some(pixels) = instance.native_pixels() {
            return Ok(Self::Native(Native::OnDisk(pixels)));
        }
        let element = [tags::PIXEL_DATA, tags::FLOAT_PIXEL_DATA, tags::DOUBLE_FLOAT_PIXEL_DATA]
            .into_iter()
            .find_map(|tag| instance.element(tag))
            .ok_or(Error::NoPixelData)?;
        match element.value() {
            Value::Primitive(value) => Ok(Self::Native(Native::Value(value))),
            Value::PixelSequence(fragments) => Ok(Self::Encapsulated(fragments)),
            Value::Sequence(_) => Err(Error::malformed("Pixel Data is a sequence of items")),
        }
    }
}

/// Bytes `start..end` of a value, in little endian order, copying as little as possible.
fn bytes_of(value: &PrimitiveValue, start: usize, end: usize) -> Result<Cow<'_, [u8]>, Error> {
    let short = |available: usize| Error::Truncated { expected: end as u64, available: available as u64 };
    match value {
        PrimitiveValue::U8(bytes) => bytes.get(start..end).map(Cow::Borrowed).ok_or_else(|| short(bytes.len())),
        PrimitiveValue::U16(words) => {
            let within = words.get(start / 2..end.div_ceil(2)).ok_or_else(|| short(words.len() * 2))?;
            let mut bytes: Vec<u8> = within.iter().flat_map(|word| word.to_le_bytes()).collect();
            bytes.truncate(end - start / 2 * 2);
            bytes.drain(..start % 2);
            Ok(Cow::Owned(bytes))
        }
        other => {
            let bytes = other.to_bytes();
            let within = bytes.get(start..end).ok_or_else(|| short(bytes.len()))?;
            Ok(Cow::Owned(within.to_vec()))
        }
    }
}

/// How many bytes a value has.
fn byte_length(value: &PrimitiveValue) -> usize {
    match value {
        PrimitiveValue::U8(bytes) => bytes.len(),
        PrimitiveValue::U16(words) => words.len() * 2,
        other => other.calculate_byte_len(),
    }
}

/// The bytes of a frame's codestream, its fragments put together.
///
/// A frame is one fragment where there are as many fragments as frames (PS3.5 A.4.4). Otherwise the Basic Offset Table
/// decides, then the Extended Offset Table (7FE0,0001), then which fragments begin with a codestream's start, then which
/// end with its end. Against the standard, but met: all frames in one fragment, told apart by their codestreams' ends.
pub(crate) fn encapsulated_frame<'a>(
    instance: &Instance,
    fragments: &'a Fragments,
    image: &ImagePixel,
    frame: u32,
) -> Result<Cow<'a, [u8]>, Error> {
    let (all, frames, frame) = (fragments.fragments(), image.frames as usize, frame as usize);
    if all.is_empty() {
        return Err(Error::Truncated { expected: 1, available: 0 });
    }
    if frames == 1 {
        return Ok(joined(all));
    }
    if all.len() == frames {
        return Ok(Cow::Borrowed(&all[frame]));
    }
    if let [one] = all {
        let codestreams = codestreams(one);
        let found = codestreams.get(frame).filter(|_| codestreams.len() == frames).copied();
        return found
            .map(Cow::Borrowed)
            .ok_or_else(|| Error::malformed("one fragment of pixel data does not hold as many codestreams as frames"));
    }
    if all.len() < frames {
        return Err(Error::malformed("there are fewer fragments of pixel data than frames"));
    }
    let starts = starts_by_table(all, frames, fragments.offset_table().iter().map(|offset| u64::from(*offset)))
        .or_else(|| starts_by_table(all, frames, extended_offsets(instance).into_iter()))
        .or_else(|| starts_by_signature(all, frames))
        .or_else(|| starts_after_ends(all, frames))
        .ok_or_else(|| Error::malformed("no offset table says which fragments of pixel data make a frame"))?;
    let end = starts.get(frame + 1).copied().unwrap_or(all.len());
    Ok(joined(&all[starts[frame]..end]))
}

fn joined(fragments: &[Vec<u8>]) -> Cow<'_, [u8]> {
    match fragments {
        [one] => Cow::Borrowed(one),
        many => Cow::Owned(many.concat()),
    }
}

/// The first fragment of each frame, by a table of offsets to their item tags; nothing when the table does not fit.
fn starts_by_table(all: &[Vec<u8>], frames: usize, table: impl ExactSizeIterator<Item = u64>) -> Option<Vec<usize>> {
    const ITEM_HEADER: u64 = 8;
    if table.len() != frames {
        return None;
    }
    let mut positions = all.iter().enumerate().scan(0, |at, (index, fragment)| {
        let position = *at;
        *at += fragment.len() as u64 + ITEM_HEADER;
        Some((index, position))
    });
    let starts: Vec<usize> = table
        .map(|offset| positions.by_ref().find(|(_, position)| *position >= offset).filter(|(_, at)| *at == offset))
        .map(|found| found.map(|(index, _)| index))
        .collect::<Option<_>>()?;
    (starts.first() == Some(&0)).then_some(starts)
}

fn extended_offsets(instance: &Instance) -> Vec<u64> {
    let value = instance.element(tags::EXTENDED_OFFSET_TABLE).and_then(|element| element.to_bytes().ok());
    let bytes = value.unwrap_or_default();
    bytes.chunks_exact(8).map(|b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])).collect()
}

/// Whether a codestream of JPEG or JPEG-LS (SOI and a marker) or of JPEG 2000 (SOC, SIZ) begins here.
fn begins_with_marker(data: &[u8]) -> bool {
    data.starts_with(&[0xff, 0xd8, 0xff]) || data.starts_with(&[0xff, 0x4f, 0xff, 0x51])
}

fn starts_by_signature(all: &[Vec<u8>], frames: usize) -> Option<Vec<usize>> {
    let begins = |fragment: &[u8]| {
        begins_with_marker(fragment)
            || fragment.starts_with(&[0xff, 0x0a])  // JPEG XL codestream
            || fragment.get(4..8) == Some(b"jP  ")  // JPEG 2000 file
            || fragment.get(4..8) == Some(b"JXL ") // JPEG XL file
    };
    let starts: Vec<usize> =
        all.iter().enumerate().filter(|(_, fragment)| begins(fragment)).map(|(index, _)| index).collect();
    (starts.len() == frames && starts[0] == 0).then_some(starts)
}

/// EOI of JPEG and JPEG-LS, EOC of JPEG 2000.
const END: [u8; 2] = [0xff, 0xd9];

/// A frame begins after a fragment that ends with a codestream's end, whatever pads it to an even length.
fn starts_after_ends(all: &[Vec<u8>], frames: usize) -> Option<Vec<usize>> {
    let ends = |fragment: &[u8]| {
        let last = fragment.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        fragment[..last].ends_with(&END)
    };
    let after_ends = all.iter().enumerate().filter(|(_, fragment)| ends(fragment)).map(|(index, _)| index + 1);
    let starts: Vec<usize> = [0].into_iter().chain(after_ends).filter(|start| *start < all.len()).collect();
    (starts.len() == frames).then_some(starts)
}

/// The codestreams that follow each other in one fragment: each begins where one has ended, after nothing but zeros.
fn codestreams(fragment: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let (mut begin, mut at) = (0, 0);
    while let Some(next) = fragment[at..].windows(2).position(|pair| pair == END) {
        at += next + 2;
        let padding = fragment[at..].iter().position(|byte| *byte != 0).unwrap_or(0);
        if begins_with_marker(&fragment[at + padding..]) {
            found.push(&fragment[begin..at]);
            begin = at + padding;
        }
        at += padding;
    }
    found.push(&fragment[begin..]);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_counts_only_when_it_points_at_fragments() {
        let all = [vec![0; 4], vec![0; 6], vec![0; 2]];
        let starts = |table: &[u64]| starts_by_table(&all, 2, table.iter().copied());
        assert_eq!(starts(&[0, 12]), Some(vec![0, 1]));
        assert_eq!(starts(&[0, 26]), Some(vec![0, 2]));
        for bad in [&[0, 13][..], &[0, 900], &[12, 26], &[0], &[0, 0], &[26, 12]] {
            assert_eq!(starts(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn without_a_table_codestreams_tell_their_frames_apart() {
        let (first, middle, last) = (vec![0xff, 0xd8, 0xff, 1], vec![2, 3], vec![4, 0xff, 0xd9, 0]);
        let all = [first.clone(), middle.clone(), last.clone(), first.clone(), last.clone()];
        assert_eq!(starts_by_signature(&all, 2), Some(vec![0, 3]));
        assert_eq!(starts_after_ends(&all, 2), Some(vec![0, 3]));
        // A frame whose start is not that of a known codestream is known by the end of the one before.
        let all = [first, last.clone(), middle, last];
        assert_eq!(starts_by_signature(&all, 2), None);
        assert_eq!(starts_after_ends(&all, 2), Some(vec![0, 2]));
        assert_eq!(starts_after_ends(&all, 3), None);
    }

    #[test]
    fn one_fragment_may_hold_every_frame() {
        let one = |number: u8| vec![0xff, 0xd8, 0xff, number, 0xff, 0xd9];
        let fragment = [one(1), vec![0, 0], one(2), one(3), vec![0]].concat();
        assert_eq!(codestreams(&fragment), [&one(1)[..], &one(2), &[&one(3)[..], &[0]].concat()]);
        // An end that nothing begins after, as of a thumbnail, ends nothing.
        let with_thumbnail = [&[0xff, 0xd8, 0xff, 9][..], &[0xff, 0xd9, 7], &one(2)].concat();
        assert_eq!(codestreams(&with_thumbnail).len(), 1);
        assert_eq!(codestreams(&[]), [&[][..]]);
    }

    #[test]
    fn a_range_of_words_may_begin_and_end_inside_one() {
        let words = PrimitiveValue::U16([0x0201, 0x0403, 0x0605].into_iter().collect());
        assert_eq!(bytes_of(&words, 1, 4).unwrap().as_ref(), [2, 3, 4]);
        assert_eq!(bytes_of(&words, 3, 5).unwrap().as_ref(), [4, 5]);
        assert!(bytes_of(&words, 3, 7).is_err());
    }
}
