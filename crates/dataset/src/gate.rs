//! The gate: one iterative pass over a data set, before any parser sees it.
//!
//! It reads from a stream, keeps nothing but the short values of top-level elements, and never allocates by a declared
//! length. What it bounds is in [`Limits`]; why, in the measurements named there.
//!
//! A sender's mistake that leaves no doubt where each element ends lets the data set pass, so that it can be kept. Where
//! a parser would see other elements than the walk did, [`Scan::irregular`] says so and keeps it away.

mod walk;

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

use dicom_core::{Tag, VR};

use crate::{
    Limits, TransferSyntax,
    source::{Inflated, Seekable, Streamed},
};
use walk::Walk;
pub(crate) use walk::has_long_length;

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
    /// The bytes are no elements: an unknown VR, an item out of place, an undefined length where none may be.
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
    /// Its value representation, from the stream or, for implicit VR, from the dictionary (UN when unknown).
    pub vr: VR,
    /// Its bytes, padding included, in the stream's byte order.
    pub bytes: Vec<u8>,
}

/// What the gate saw of a data set that passed.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// Short values of top-level elements (sequences and values over the limit left out).
    pub values: BTreeMap<Tag, RawValue>,
    /// Elements and items in all, without delimiters.
    pub elements: u64,
    /// The deepest nesting met.
    pub depth: usize,
    /// Bytes of the data set, inflated, without zeros after its last element.
    pub bytes: u64,
    /// Whether there is pixel data of any kind (native, float, double).
    pub has_pixel_data: bool,
    /// Where the first pixel data starts (bytes into the inflated data set), and how many elements and items come before
    /// it.
    pub pixel_data_at: Option<(u64, u64)>,
    /// What of it only the walk understands: dicom-object 0.10 would take other bytes for tags and lengths, spend
    /// seconds and gigabytes, or answer with other elements. Such a data set can be kept and sent on, not parsed.
    pub irregular: Option<&'static str>,
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
    if !syntax.deflated() {
        return Walk::new(Streamed(BufReader::new(reader)), length, syntax, limits).run();
    }
    let inflated = Inflated::new(reader)?;
    let zlib = matches!(inflated, Inflated::Zlib(_));
    let mut inflated = inflated.take(limits.inflated_bytes.saturating_add(1));
    let scan = Walk::new(Streamed(BufReader::new(&mut inflated)), None, syntax, limits).run();
    // At the cap the walk meets an end that is ours and not the data set's, so its own finding is beside the point.
    if inflated.limit() == 0 {
        return Err(GateError::Inflation { limit: limits.inflated_bytes });
    }
    let mut scan = scan?;
    if zlib {
        scan.irregular = Some("is deflated with a zlib header");
    }
    Ok(scan)
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
    if syntax.deflated() {
        return scan(file, None, syntax, limits);
    }
    let start = file.stream_position()?;
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(start))?;
    Walk::new(Seekable(BufReader::new(file)), Some(end.saturating_sub(start)), syntax, limits).run()
}
