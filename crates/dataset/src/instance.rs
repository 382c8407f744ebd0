use std::{
    io::{Cursor, Read, Seek, SeekFrom},
    path::Path,
};

use dicom_core::Tag;
use dicom_object::{DefaultDicomObject, FileMetaTable, InMemDicomObject};

use crate::{
    Digest, Error, Header, Limits, NativePixels, TransferSyntax, gate,
    large::{self, regular},
    object,
    part10::{self, Meta},
};

/// An instance that passed the gate and was read whole.
#[derive(Debug)]
pub struct Instance {
    /// Its header.
    pub header: Header,
    /// The file meta information it came with.
    pub meta: Meta,
    object: DefaultDicomObject,
    /// Native pixel data that stays on the disk, in place of its element.
    pixels: Option<NativePixels>,
}

impl Instance {
    /// Opens a Part 10 file: the gate first, which steps over values, and only of what passes the values are read. Of a
    /// large one the native pixel data stays on the disk (see [`Self::native_pixels`]).
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let mut file = regular(path)?;
        if file.metadata()?.len() > WHOLE_BYTES {
            return large::open(file, limits);
        }
        Self::read(&mut file, limits)
    }

    /// The same over bytes in memory.
    pub fn from_bytes(bytes: &[u8], limits: &Limits) -> Result<Self, Error> {
        Self::read(&mut Cursor::new(bytes), limits)
    }

    fn read(file: &mut (impl Read + Seek), limits: &Limits) -> Result<Self, Error> {
        let (meta, header) = header(file, limits)?;
        let syntax = header.transfer_syntax;
        if !syntax.can_be_parsed() {
            return Err(Error::RetiredTransferSyntax(syntax.uid()));
        }
        let (_, data_set) = object::build(file, syntax, limits)?;
        Self::made(header, meta, data_set, None)
    }

    /// Our own file meta information replaces what came.
    pub(crate) fn made(
        header: Header,
        meta: Meta,
        data_set: InMemDicomObject,
        pixels: Option<NativePixels>,
    ) -> Result<Self, Error> {
        let file_meta = FileMetaTable::from_reader(&meta.to_bytes()[part10::PREAMBLE..]);
        let file_meta = file_meta.map_err(|_| Error::Parse(header.sop_instance_uid.clone()))?;
        Ok(Self { header, meta, object: data_set.with_exact_meta(file_meta), pixels })
    }

    /// The data set with its file meta information. Its texts are decoded where Specific Character Set says UTF-8;
    /// otherwise each character is one byte (ISO 8859-1), which [`Header::character_set`] decodes.
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
        Ok(header(file, limits)?.1)
    }
}

/// Files up to this size are read whole: a radiograph, or a stack of some hundred slices.
const WHOLE_BYTES: u64 = 64 << 20;

/// File meta information and header of a file, which stands at the beginning of its data set afterwards.
pub(crate) fn header(file: &mut (impl Read + Seek), limits: &Limits) -> Result<(Meta, Header), Error> {
    bounded(file.seek(SeekFrom::End(0))?, limits)?;
    let (meta, data_set_at) = meta_of(file)?;
    let syntax = TransferSyntax::from_uid(meta.transfer_syntax_uid.as_str())?;
    let data_set_at = SeekFrom::Start(data_set_at as u64);
    file.seek(data_set_at)?;
    let header = Header::from_scan(gate::scan_seekable(file, syntax, limits)?, syntax);
    file.seek(data_set_at)?;
    Ok((meta, header))
}

/// The file meta information of a real file is below 1 KiB.
const USUAL_META_BYTES: usize = 2 << 10;

/// Leaves room for private information (0002,0102).
const LONGEST_META_BYTES: usize = 64 << 10;

/// The file meta information, and where the data set begins.
pub(crate) fn meta_of(file: &mut (impl Read + Seek)) -> Result<(Meta, usize), Error> {
    let parsed = Meta::parse(&head(file, USUAL_META_BYTES)?);
    if matches!(parsed, Ok((_, data_set_at)) if data_set_at + 2 <= USUAL_META_BYTES) {
        return parsed;
    }
    Meta::parse(&head(file, LONGEST_META_BYTES)?)
}

fn head(file: &mut (impl Read + Seek), bytes: usize) -> std::io::Result<Vec<u8>> {
    file.rewind()?;
    let mut head = Vec::with_capacity(USUAL_META_BYTES);
    file.take(bytes as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn bounded(bytes: u64, limits: &Limits) -> Result<(), Error> {
    if bytes > limits.instance_bytes { Err(Error::TooLarge { bytes, limit: limits.instance_bytes }) } else { Ok(()) }
}
