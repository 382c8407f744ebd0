//! Large native pixel data stays on the disk: a frame of it is read when somebody wants that frame, so that what an instance
//! takes of the memory does not depend on how many it has.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
};

use dicom_core::Tag;
use dicom_object::FileMetaTable;

use crate::{
    Error, Header, Instance, Limits, TransferSyntax,
    gate::{self, Scan},
    instance::{LONGEST_META_BYTES, bounded, head},
    parse::parse_stream,
    part10::{self, Meta},
};

/// Native pixel data that was not read with the rest of its instance.
#[derive(Debug)]
pub struct NativePixels {
    tag: Tag,
    file: File,
    at: u64,
    bytes: u64,
}

impl NativePixels {
    /// Which of the three elements of pixel data it is.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes `start..end`, in little endian order.
    ///
    /// # Errors
    /// When they are beyond the element, or cannot be read.
    pub fn read(&self, start: u64, end: u64) -> std::io::Result<Vec<u8>> {
        let beyond = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        if start > end || end > self.bytes {
            return Err(beyond());
        }
        let mut bytes = vec![0; usize::try_from(end - start).map_err(|_| beyond())?];
        self.file.read_exact_at(&mut bytes, self.at + start)?;
        Ok(bytes)
    }
}

/// Opens a file without having all of it in memory: it is parsed as it is read, and native pixel data is stepped over. None
/// where the data set is deflated, so that there is no place in the file where its pixels are.
pub(crate) fn open(mut file: File, limits: &Limits) -> Result<Option<Instance>, Error> {
    bounded(file.seek(SeekFrom::End(0))?, limits)?;
    let (meta, data_set_at) = Meta::parse(&head(&mut file, LONGEST_META_BYTES)?)?;
    let data_set_at = data_set_at as u64;
    let syntax = TransferSyntax::from_uid(meta.transfer_syntax_uid.as_str())?;
    if syntax.deflated() {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(data_set_at))?;
    let scan = gate::scan_seekable(&mut file, syntax, limits)?;
    let header = Header::from_scan(scan, syntax);
    if !syntax.can_be_parsed() {
        return Err(Error::RetiredTransferSyntax(syntax.uid()));
    }
    if let Some(why) = header.irregular() {
        return Err(Error::Irregular { uid: header.sop_instance_uid, why });
    }
    let scan = header.scan();
    let native = native(&file, data_set_at, scan, syntax)?;
    file.seek(SeekFrom::Start(data_set_at))?;
    let parsed = match (&native, scan.pixel_data_at) {
        // What stands after the pixels is padding and signatures, which nobody reads.
        (Some(_), Some((bytes, elements))) => {
            let front = Scan { bytes, elements, ..scan.clone() };
            parse_stream(BufReader::new((&file).take(bytes)), syntax, &front, limits)
        }
        _ => parse_stream(BufReader::new(&file), syntax, scan, limits),
    };
    // Our own meta replaces what came.
    let file_meta = FileMetaTable::from_reader(&meta.to_bytes()[part10::PREAMBLE..]);
    let (Ok(parsed), Ok(file_meta)) = (parsed, file_meta) else {
        return Err(Error::Parse(header.sop_instance_uid));
    };
    Ok(Some(Instance { header, meta, object: parsed.with_exact_meta(file_meta), pixels: native }))
}

/// The native pixel data of a file; none where it is encapsulated, absent, or in an order of bytes
/// that is not ours.
fn native(file: &File, data_set_at: u64, scan: &Scan, syntax: TransferSyntax) -> Result<Option<NativePixels>, Error> {
    let Some((offset, _)) = scan.pixel_data_at.filter(|_| !syntax.big_endian()) else { return Ok(None) };
    let element_at = data_set_at + offset;
    let mut head = [0; 12];
    file.read_exact_at(&mut head, element_at)?;
    let two = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let four = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    // Only OB, OW, OF and OD are met here; all have a long length.
    let (length, value_at) = match syntax.explicit_vr() {
        true if head[4..6].iter().all(u8::is_ascii_uppercase) && two(6) == 0 => (four(8), 12),
        true => return Ok(None),
        false => (four(4), 8),
    };
    if length == u32::MAX {
        return Ok(None);
    }
    Ok(Some(NativePixels {
        tag: Tag(two(0), two(2)),
        file: file.try_clone()?,
        at: element_at + value_at,
        bytes: u64::from(length),
    }))
}

/// Opens a regular file. Anything else may be without an end, or without a beginning.
///
/// # Errors
/// [`Error::NotAFile`] for a pipe, a device, a socket or a folder, and as the system says.
pub(crate) fn regular(path: &Path) -> Result<File, Error> {
    if !path.metadata()?.is_file() {
        return Err(Error::NotAFile);
    }
    Ok(File::open(path)?)
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::tags;

    use super::*;

    #[test]
    fn pixels_on_the_disk_are_those_that_are_read_whole() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/phantom-cxr/samples/02-nodule-small.dcm");
        let limits = Limits::default();
        let whole = Instance::open(&path, &limits).unwrap();
        let large = open(regular(&path).unwrap(), &limits).unwrap().unwrap();
        let pixels = whole.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap();
        let there = large.native_pixels().unwrap();
        assert!(whole.native_pixels().is_none() && large.element(tags::PIXEL_DATA).is_none());
        assert_eq!((there.tag(), there.bytes()), (tags::PIXEL_DATA, pixels.len() as u64));
        assert_eq!(there.read(0, there.bytes()).unwrap(), *pixels);
        assert_eq!(there.read(5, 9).unwrap(), pixels[5..9]);
        assert!(there.read(9, 5).is_err() && there.read(0, there.bytes() + 1).is_err());
        let before = |tag: &Tag| *tag < tags::PIXEL_DATA;
        let tags = |instance: &Instance| instance.object().tags().filter(before).collect::<Vec<_>>();
        assert_eq!(tags(&large), tags(&whole));
        assert_eq!(large.header.sop_instance_uid, whole.header.sop_instance_uid);
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        for path in ["/dev/zero", "/tmp"] {
            assert!(matches!(Instance::open(path.as_ref(), &Limits::default()), Err(Error::NotAFile)), "{path}");
            assert!(matches!(Header::open(path.as_ref(), &Limits::default()), Err(Error::NotAFile)), "{path}");
        }
    }
}
