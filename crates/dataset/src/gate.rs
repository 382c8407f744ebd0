//! The gate: one iterative pass over a data set, before anything else sees it.
//!
//! It reads from a stream, keeps nothing but the short values of top-level elements, and never allocates by a declared
//! length. What it bounds is in [`Limits`]; why, in the measurements named there.
//!
//! A sender's mistake that leaves no doubt where each element ends lets the data set pass: it is kept, and it is read, for
//! the objects that are read are built by the same walk. So DCMTK and pydicom do with VRs that nobody knows, with
//! sequences sent as UN (PS3.5 6.2.2), and with text where the dictionary has a sequence.

mod visit;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom},
};

use dicom_core::{Tag, VR};

use crate::{
    Limits, TransferSyntax,
    source::{Seekable, Streamed, inflated},
};
use visit::Nobody;
pub(crate) use visit::{Element, Visit};
use walk::{Encoding, Walk};
pub(crate) use walk::{has_long_length, swap};

/// Why a data set may not pass. Says where (byte offset in the inflated data set) and at which tag, never a value.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The stream ended inside an element.
    #[error("{tag} at byte {offset} declares {declared} bytes, {available} are left")]
    Truncated {
        /// The element.
        tag: Tag,
        /// Where its header starts.
        offset: u64,
        /// Its declared length.
        declared: u64,
        /// The bytes that were left.
        available: u64,
    },
    /// The stream ended inside an element's header, or inside a sequence of undefined length.
    #[error("the data set ends at byte {offset} inside {within}")]
    Ended {
        /// Where.
        offset: u64,
        /// Inside what.
        within: &'static str,
    },
    /// Sequences are nested deeper than allowed.
    #[error("sequences nested deeper than {limit} at byte {offset}")]
    TooDeep {
        /// Where.
        offset: u64,
        /// The limit.
        limit: usize,
    },
    /// More elements and items than allowed.
    #[error("more than {limit} elements")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// A deflated data set inflates to more than allowed.
    #[error("the deflated data set inflates to more than {limit} bytes")]
    Inflation {
        /// The limit.
        limit: u64,
    },
    /// More text of several values than is taken apart: it takes many times its bytes then.
    #[error("more than {limit} bytes of text that stands for several values")]
    SeparatedText {
        /// The limit.
        limit: u64,
    },
    /// More items that hold something than are kept in memory.
    #[error("more than {limit} items that hold something")]
    FilledItems {
        /// The limit.
        limit: u64,
    },
    /// The bytes are no elements: an item out of place, an undefined length where none may be.
    #[error("{what} at byte {offset}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where.
        offset: u64,
    },
    /// The stream itself failed.
    #[error("cannot read the data set: {0}")]
    Io(#[from] io::Error),
}

/// A short top-level value as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawValue {
    /// Its value representation, from the stream or, for implicit VR and what was sent as UN, from the dictionary (UN when
    /// unknown).
    pub vr: VR,
    /// Its bytes, padding included, in the stream's byte order.
    pub bytes: Vec<u8>,
}

/// Where the pixel data of a data set is: bytes from its beginning, inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelDataAt {
    /// Which of the three elements of pixel data it is.
    pub tag: Tag,
    /// Where the element begins.
    pub element: u64,
    /// Where its value begins.
    pub value: u64,
    /// The bytes of native pixel data; nothing where it is encapsulated.
    pub native: Option<u32>,
}

/// What the gate saw of a data set that passed.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// Short values of top-level elements (sequences and values over the limit left out).
    pub values: BTreeMap<Tag, RawValue>,
    /// Attributes that say whose an instance is and are there, but were not kept: too long, or a sequence.
    pub unread_identity: BTreeSet<Tag>,
    /// Elements and items in all, without delimiters.
    pub elements: u64,
    /// The deepest nesting met.
    pub depth: usize,
    /// Bytes of the data set, inflated, without zeros after its last element.
    pub bytes: u64,
    /// Whether there is pixel data of any kind (native, float, double).
    pub has_pixel_data: bool,
    /// Where the first pixel data of any kind is.
    pub pixel_data_at: Option<PixelDataAt>,
}

/// Walks a data set to its end, reading every byte of it.
///
/// `length` is the number of bytes that `reader` holds, where known (never for a deflated set): a declared length beyond
/// it is refused at once.
pub fn scan(
    reader: impl Read,
    length: Option<u64>,
    syntax: TransferSyntax,
    limits: &Limits,
) -> Result<Scan, GateError> {
    if syntax.deflated() {
        return walk_inflated(reader, syntax, limits, &mut Nobody);
    }
    Walk::new(Streamed(BufReader::new(reader)), length, Encoding::of(syntax), limits, &mut Nobody).run()
}

/// Walks the data set that starts where `file` stands and ends with it, stepping over the values that nobody keeps.
///
/// The same walk as [`scan`] with the same outcome, but what it costs depends on the elements and not on the pixels. A
/// deflated set has to be read all the same.
pub fn scan_seekable(
    file: &mut (impl Read + Seek),
    syntax: TransferSyntax,
    limits: &Limits,
) -> Result<Scan, GateError> {
    walk(file, syntax, limits, &mut Nobody)
}

/// [`scan_seekable`] with somebody who is told of what it meets.
pub(crate) fn walk<V: Visit>(
    file: &mut (impl Read + Seek),
    syntax: TransferSyntax,
    limits: &Limits,
    visit: &mut V,
) -> Result<Scan, GateError> {
    if syntax.deflated() {
        return walk_inflated(file, syntax, limits, visit);
    }
    let start = file.stream_position()?;
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(start))?;
    let length = Some(end.saturating_sub(start));
    Walk::new(Seekable(BufReader::new(file)), length, Encoding::of(syntax), limits, visit).run()
}

/// Walks the items of a sequence that was sent as UN of defined length, which are all that `bytes` holds (PS3.5 6.2.2).
/// For whoever visits, the sequence has begun already; it ends here.
pub(crate) fn walk_items_of_un<V: Visit>(bytes: &[u8], limits: &Limits, visit: &mut V) -> Result<Scan, GateError> {
    let reader = Seekable(BufReader::new(Cursor::new(bytes)));
    Walk::items_of_un(reader, bytes.len() as u64, limits, visit)?.run()
}

/// Walks the first `bytes` of the data set that starts where `file` stands, which end where an element does. It must not be
/// deflated.
pub(crate) fn walk_front<V: Visit>(
    file: &mut impl Read,
    bytes: u64,
    syntax: TransferSyntax,
    limits: &Limits,
    visit: &mut V,
) -> Result<Scan, GateError> {
    let reader = Streamed(BufReader::new(file.take(bytes)));
    Walk::new(reader, Some(bytes), Encoding::of(syntax), limits, visit).run()
}

fn walk_inflated<V: Visit>(
    reader: impl Read,
    syntax: TransferSyntax,
    limits: &Limits,
    visit: &mut V,
) -> Result<Scan, GateError> {
    let mut inflated = inflated(reader)?.take(limits.inflated_bytes.saturating_add(1));
    let reader = Streamed(BufReader::new(&mut inflated));
    let scan = Walk::new(reader, None, Encoding::of(syntax), limits, visit).run();
    // At the cap the walk meets an end that is ours and not the data set's, so its own finding is beside the point.
    if inflated.limit() == 0 {
        return Err(GateError::Inflation { limit: limits.inflated_bytes });
    }
    scan
}
