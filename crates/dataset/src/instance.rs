use std::{fs::File, io::Read, path::Path};

use dicom_core::Tag;
use dicom_object::{DefaultDicomObject, OpenFileOptions, file::ReadPreamble};

use crate::{Error, Header, Limits, TransferSyntax, gate, part10::Meta};

/// An instance that passed the gate and was parsed whole.
#[derive(Debug)]
pub struct Instance {
    /// Its header.
    pub header: Header,
    /// The file meta information it came with.
    pub meta: Meta,
    object: DefaultDicomObject,
}

impl Instance {
    /// Opens a Part 10 file: gate first, then the recursive parser.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        Self::from_bytes(&read_bounded(path, limits)?, limits)
    }

    /// The same over bytes in memory.
    pub fn from_bytes(bytes: &[u8], limits: &Limits) -> Result<Self, Error> {
        let (meta, header, data_set_at) = gated(bytes, limits)?;
        if !header.transfer_syntax.can_be_parsed() {
            return Err(Error::RetiredTransferSyntax(header.transfer_syntax.uid()));
        }
        if header.has_undefined_length_un() {
            return Err(Error::UndefinedLengthUn(header.sop_instance_uid));
        }
        // Our own preamble and meta replace what came, so that the parser meets one form only.
        let mut file = meta.to_bytes();
        file.extend_from_slice(&bytes[data_set_at..]);
        let object = OpenFileOptions::new()
            .read_preamble(ReadPreamble::Always)
            .from_reader(file.as_slice())
            .map_err(|_| Error::Parse(header.sop_instance_uid.clone()))?;
        Ok(Self { header, meta, object })
    }

    /// The parsed data set with its file meta information.
    pub fn object(&self) -> &DefaultDicomObject {
        &self.object
    }

    /// The whole element at `tag`, sequences included.
    pub fn element(&self, tag: Tag) -> Option<&dicom_object::mem::InMemElement> {
        self.object.get(tag)
    }
}

impl Header {
    /// Reads the header of a Part 10 file through the gate alone: no pixel data is kept and no recursive parser runs.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        bounded(length, limits)?;
        // The file meta information of a real file is below 1 KiB; 64 KiB leaves room for private information.
        let mut head = Vec::with_capacity(1 << 10);
        (&mut file).take(64 << 10).read_to_end(&mut head)?;
        let (meta, data_set_at) = Meta::parse(&head)?;
        let syntax = TransferSyntax::from_uid(meta.transfer_syntax_uid.as_str())?;
        let data_set = head[data_set_at..].chain(file);
        let scan = gate::scan(std::io::BufReader::new(data_set), Some(length - data_set_at as u64), syntax, limits)?;
        Ok(Self::from_scan(scan, syntax))
    }
}

fn gated(bytes: &[u8], limits: &Limits) -> Result<(Meta, Header, usize), Error> {
    bounded(bytes.len() as u64, limits)?;
    let (meta, data_set_at) = Meta::parse(bytes)?;
    let syntax = TransferSyntax::from_uid(meta.transfer_syntax_uid.as_str())?;
    let data_set = &bytes[data_set_at..];
    let scan = gate::scan(data_set, Some(data_set.len() as u64), syntax, limits)?;
    Ok((meta, Header::from_scan(scan, syntax), data_set_at))
}

fn bounded(bytes: u64, limits: &Limits) -> Result<(), Error> {
    if bytes > limits.instance_bytes { Err(Error::TooLarge { bytes, limit: limits.instance_bytes }) } else { Ok(()) }
}

fn read_bounded(path: &Path, limits: &Limits) -> Result<Vec<u8>, Error> {
    let file = File::open(path)?;
    bounded(file.metadata()?.len(), limits)?;
    let mut bytes = Vec::new();
    file.take(limits.instance_bytes + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
