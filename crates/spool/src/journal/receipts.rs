//! Receipts: each record of the journal that was flushed is written a second time, beside the journal, before its instance
//! is acknowledged. They are not flushed by themselves and nothing waits for the disk because of them.
//!
//! A journal that is gone, older or damaged looks to a start like one that holds less. By its receipts a start knows which
//! records there must be, where each of them is, and what is gone when one of them is not there.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::read_exact_at;
use crate::{
    Error,
    disk::{Disk, DiskFile},
};

/// Bytes from one receipt to the next; the first place is the file's own mark.
const SLOT: u64 = 1 << 10;
const HEAD: usize = 76;
const CHECKED: usize = 60;
const RECEIPT: [u8; 4] = *b"PRR1";
const FILE: [u8; 8] = *b"PREREADR";

/// The receipts of a journal, a file for each of its segments.
pub(crate) struct Receipts {
    files: Vec<Option<(PathBuf, Arc<dyn DiskFile>)>>,
    /// Whether it was said that they cannot be written.
    has_failed: AtomicBool,
}

/// Where a record is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) segment: usize,
    pub(super) epoch: u64,
    /// Its number in this use of the segment, from 0.
    pub(super) ordinal: u32,
    /// Bytes from the beginning of the segment.
    pub(super) at: u64,
}

/// A receipt that was found at start.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    pub(super) place: Place,
    /// BLAKE3 of the record.
    pub(super) digest: [u8; 32],
    /// The record; nothing when it was too long for its receipt.
    pub(crate) record: Vec<u8>,
}

/// All receipts that were found at start.
pub(crate) struct Found {
    pub(crate) receipts: Vec<Receipt>,
    /// Whether every file of them was there, so that what has no receipt was not acknowledged.
    pub(crate) is_whole: bool,
}

impl Receipts {
    /// Opens the receipts in `folder`, makes what is missing, and reads those of epochs after `after`.
    pub(crate) fn open(disk: &dyn Disk, folder: &Path, segments: u64, after: u64) -> Result<(Self, Found), Error> {
        disk.create_folder(folder).map_err(Error::io(folder))?;
        let mut found = Found { receipts: Vec::new(), is_whole: true };
        let mut files = Vec::new();
        for number in 0..segments {
            let path = folder.join(number.to_string());
            let (file, was_there) = open_file(disk, &path).map_err(Error::io(&path))?;
            found.is_whole &= was_there;
            read(&*file, files.len(), after, &mut found.receipts).map_err(Error::io(&path))?;
            files.push(Some((path, file)));
        }
        disk.sync_folder(folder).map_err(Error::flush(folder))?;
        Ok((Self { files, has_failed: AtomicBool::new(false) }, found))
    }

    /// Notes that a record was flushed. An error is said once and changes nothing: the journal has the record.
    pub(crate) fn write(&self, place: Place, record: &[u8]) {
        let Some(Some((path, file))) = self.files.get(place.segment) else { return };
        let written = file.write_all_at(&to_bytes(place, record), SLOT * (u64::from(place.ordinal) + 1));
        if let Err(error) = written
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                %error,
                path = %path.display(),
                "a receipt could not be written: if the journal is lost before it is filed, what is gone cannot be named"
            );
        }
    }
}

fn open_file(disk: &dyn Disk, path: &Path) -> io::Result<(Arc<dyn DiskFile>, bool)> {
    let file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path)?,
        other => other?,
    };
    let mut mark = [0; FILE.len()];
    let is_marked = file.length()? >= mark.len() as u64 && {
        read_exact_at(&*file, &mut mark, 0)?;
        mark == FILE
    };
    if !is_marked {
        file.write_all_at(&FILE, 0)?;
        file.sync()?;
    }
    Ok((file, is_marked))
}

/// Reads the intact receipts of a file.
fn read(file: &dyn DiskFile, segment: usize, after: u64, found: &mut Vec<Receipt>) -> io::Result<()> {
    let length = file.length()?;
    let mut at = SLOT;
    while at + HEAD as u64 <= length {
        let mut bytes = vec![0; usize::try_from(SLOT.min(length - at)).unwrap_or(HEAD)];
        read_exact_at(file, &mut bytes, at)?;
        found.extend(parse(segment, &bytes).filter(|receipt| receipt.place.epoch > after));
        at += SLOT;
    }
    Ok(())
}

fn to_bytes(place: Place, record: &[u8]) -> Vec<u8> {
    let most = usize::try_from(SLOT).map_or(0, |slot| slot - HEAD);
    let kept = if record.len() <= most { record } else { &[] };
    let mut bytes = Vec::with_capacity(HEAD + kept.len());
    bytes.extend_from_slice(&RECEIPT);
    bytes.extend_from_slice(&place.epoch.to_le_bytes());
    bytes.extend_from_slice(&place.ordinal.to_le_bytes());
    bytes.extend_from_slice(&place.at.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(kept.len()).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(blake3::hash(record).as_bytes());
    bytes.extend_from_slice(&check(&bytes, kept));
    bytes.extend_from_slice(kept);
    bytes
}

fn parse(segment: usize, bytes: &[u8]) -> Option<Receipt> {
    fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
        bytes.get(at..at + N)?.try_into().ok()
    }
    let length = usize::try_from(u32::from_le_bytes(part(bytes, 24)?)).ok()?;
    let record = bytes.get(HEAD..HEAD + length)?;
    let is_intact = part(bytes, 0)? == RECEIPT && bytes.get(CHECKED..HEAD)? == check(&bytes[..CHECKED], record);
    let place = Place {
        segment,
        epoch: u64::from_le_bytes(part(bytes, 4)?),
        ordinal: u32::from_le_bytes(part(bytes, 12)?),
        at: u64::from_le_bytes(part(bytes, 16)?),
    };
    is_intact.then(|| Receipt { place, digest: part(bytes, 28).unwrap_or_default(), record: record.to_vec() })
}

fn check(head: &[u8], record: &[u8]) -> [u8; HEAD - CHECKED] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head[..CHECKED]).update(record);
    let hash = hasher.finalize();
    std::array::from_fn(|index| hash.as_bytes()[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_back_and_any_flipped_bit_is_seen() {
        let place = Place { segment: 3, epoch: 7, ordinal: 2, at: 8192 };
        let bytes = to_bytes(place, b"a record");
        let receipt = parse(3, &bytes).unwrap();
        assert_eq!((receipt.place, receipt.record.as_slice()), (place, b"a record".as_slice()));
        assert_eq!(receipt.digest, *blake3::hash(b"a record").as_bytes());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(3, &flipped).is_none(), "bit {bit}");
        }
        let long = to_bytes(place, &[b'x'; 5000]);
        assert!(long.len() <= 1024 && parse(3, &long).is_some_and(|receipt| receipt.record.is_empty()));
    }
}
