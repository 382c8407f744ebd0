use std::{
    io::{Cursor, Read, Seek, SeekFrom},
    path::Path,
};

use dicom_core::Tag;
use dicom_object::{DefaultDicomObject, FileMetaTable};

use crate::{
    Digest, Error, Header, Limits, NativePixels, TransferSyntax, gate,
    large::{self, regular},
    parse::parse,
    part10::{self, Meta},
};

/// An instance that passed the gate and was parsed whole.
#[derive(Debug)]
pub struct Instance {
    /// Its header.
    pub header: Header,
    /// The file meta information it came with.
    pub meta: Meta,
    pub(crate) object: DefaultDicomObject,
    /// Native pixel data that stays on the disk, in place of its element.
    pub(crate) pixels: Option<NativePixels>,
}

impl Instance {
    /// Opens a Part 10 file: gate first, then the parser. Of a large one the native pixel data stays on the disk (see
    /// [`Self::native_pixels`]).
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let mut file = regular(path)?;
        let length = file.metadata()?.len();
        bounded(length, limits)?;
        if length > WHOLE_BYTES
            && let Some(instance) = large::open(file.try_clone()?, limits)?
        {
            return Ok(instance);
        }
        file.rewind()?;
        let mut bytes = Vec::new();
        file.take(limits.instance_bytes + 1).read_to_end(&mut bytes)?;
        Self::from_bytes(&bytes, limits)
    }

    /// The same over bytes in memory.
    pub fn from_bytes(bytes: &[u8], limits: &Limits) -> Result<Self, Error> {
        let (meta, header, data_set_at) = gated(bytes, limits)?;
        if !header.transfer_syntax.can_be_parsed() {
            return Err(Error::RetiredTransferSyntax(header.transfer_syntax.uid()));
        }
        if let Some(why) = header.irregular() {
            return Err(Error::Irregular { uid: header.sop_instance_uid, why });
        }
        let parsed = parse(&bytes[data_set_at..], header.transfer_syntax, header.scan(), limits);
        // Our own meta replaces what came.
        let file_meta = FileMetaTable::from_reader(&meta.to_bytes()[part10::PREAMBLE..]);
        let (Ok(parsed), Ok(file_meta)) = (parsed, file_meta) else {
            return Err(Error::Parse(header.sop_instance_uid));
        };
        let object = parsed.with_exact_meta(file_meta);
        Ok(Self { header, meta, object, pixels: None })
    }

    /// The parsed data set with its file meta information.
    pub fn object(&self) -> &DefaultDicomObject {
        &self.object
    }

    /// Native pixel data that was left on the disk: then there is no such element in [`Self::object`].
    pub fn native_pixels(&self) -> Option<&NativePixels> {
        self.pixels.as_ref()
    }

    /// The whole element at `tag`, sequences included.
    pub fn element(&self, tag: Tag) -> Option<&dicom_object::mem::InMemElement> {
        self.object.get(tag)
    }
}

impl Header {
    /// Reads the header of a Part 10 file through the gate alone: values that are not kept are stepped over, and no
    /// parser runs.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        Self::read(&mut regular(path)?, limits)
    }

    /// The same of a file that was kept when `digest` was that of its data set (see [`crate::Digest`]), printed: every byte of
    /// the data set is read, in pieces.
    ///
    /// Errors with [`Error::Damaged`] when it holds something else now.
    pub fn open_kept(path: &Path, digest: &str, limits: &Limits) -> Result<Self, Error> {
        let mut file = regular(path)?;
        let data_set_at = match meta_of(&mut file) {
            Ok((_, data_set_at)) => data_set_at,
            Err(Error::Io(error)) => return Err(error.into()),
            Err(_) => return Err(Error::Damaged),
        };
        file.seek(SeekFrom::Start(data_set_at as u64))?;
        let (found, _) = Digest::of_reader(&mut file)?;
        if found.to_string() != digest {
            return Err(Error::Damaged);
        }
        Self::read(&mut file, limits)
    }

    /// The same of a file that is open, from its beginning; where the file stands afterwards is not specified.
    pub fn read(file: &mut (impl Read + Seek), limits: &Limits) -> Result<Self, Error> {
        bounded(file.seek(SeekFrom::End(0))?, limits)?;
        let (meta, data_set_at) = meta_of(file)?;
        let syntax = TransferSyntax::from_uid(meta.transfer_syntax_uid.as_str())?;
        file.seek(SeekFrom::Start(data_set_at as u64))?;
        Ok(Self::from_scan(gate::scan_seekable(file, syntax, limits)?, syntax))
    }
}

/// Files up to this size are read whole: a radiograph, or a stack of some hundred slices.
const WHOLE_BYTES: u64 = 64 << 20;

/// The file meta information of a real file is below 1 KiB.
const USUAL_META_BYTES: usize = 2 << 10;

/// Leaves room for private information (0002,0102).
pub(crate) const LONGEST_META_BYTES: usize = 64 << 10;

/// The file meta information, and where the data set begins.
fn meta_of(file: &mut (impl Read + Seek)) -> Result<(Meta, usize), Error> {
    let parsed = Meta::parse(&head(file, USUAL_META_BYTES)?);
    if matches!(parsed, Ok((_, data_set_at)) if data_set_at + 2 <= USUAL_META_BYTES) {
        return parsed;
    }
    Meta::parse(&head(file, LONGEST_META_BYTES)?)
}

pub(crate) fn head(file: &mut (impl Read + Seek), bytes: usize) -> std::io::Result<Vec<u8>> {
    file.rewind()?;
    let mut head = Vec::with_capacity(USUAL_META_BYTES);
    file.take(bytes as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn gated(bytes: &[u8], limits: &Limits) -> Result<(Meta, Header, usize), Error> {
    bounded(bytes.len() as u64, limits)?;
    let (meta, data_set_at) = Meta::parse(bytes)?;
    let syntax = TransferSyntax::from_uid(meta.transfer_syntax_uid.as_str())?;
    let scan = gate::scan_seekable(&mut Cursor::new(&bytes[data_set_at..]), syntax, limits)?;
    Ok((meta, Header::from_scan(scan, syntax), data_set_at))
}

pub(crate) fn bounded(bytes: u64, limits: &Limits) -> Result<(), Error> {
    if bytes > limits.instance_bytes { Err(Error::TooLarge { bytes, limit: limits.instance_bytes }) } else { Ok(()) }
}
