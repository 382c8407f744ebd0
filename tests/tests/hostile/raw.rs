//! Bytes as no well-meaning sender would write them: data sets in Explicit VR Little Endian, and conversations.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use e2e::{
    daemon::AE_TITLE,
    instance::{self, Instance, Study},
};

pub(super) const UNDEFINED: u32 = u32::MAX;

/// An element's header: 32 bits of length where the VR has them.
pub(super) fn header(tag: Tag, vr: &[u8; 2], length: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(tag.group().to_le_bytes());
    bytes.extend(tag.element().to_le_bytes());
    bytes.extend(vr);
    if matches!(vr, b"OB" | b"OW" | b"SQ" | b"UN" | b"UT") {
        bytes.extend([0, 0]);
        bytes.extend(length.to_le_bytes());
    } else {
        bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    }
    bytes
}

/// An element whose length is right.
pub(super) fn element(tag: Tag, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut bytes = header(tag, vr, u32::try_from(value.len()).unwrap_or(UNDEFINED));
    bytes.extend(value);
    bytes
}

/// An item's or a delimiter's header.
pub(super) fn item(number: u16, length: u32) -> Vec<u8> {
    [&[0xfe, 0xff][..], &number.to_le_bytes(), &length.to_le_bytes()].concat()
}

/// A UID, padded to an even length.
pub(super) fn uid(tag: Tag, uid: &str) -> Vec<u8> {
    let mut value = uid.as_bytes().to_vec();
    value.resize(value.len().next_multiple_of(2), 0);
    element(tag, b"UI", &value)
}

/// An instance of Computed Radiography Image Storage that is its four identifiers and `rest`.
pub(super) fn instance_of(seed: u64, rest: &[u8]) -> Result<Instance> {
    let mut whole = Study::seeded(seed).image(1)?;
    whole.data_set = [
        uid(tags::SOP_CLASS_UID, &whole.sop_class_uid),
        uid(tags::SOP_INSTANCE_UID, &whole.sop_instance_uid),
        uid(tags::STUDY_INSTANCE_UID, &whole.study_instance_uid),
        uid(tags::SERIES_INSTANCE_UID, "1.2.3"),
        rest.to_vec(),
    ]
    .concat();
    Ok(whole)
}

/// A small image with something changed.
pub(super) fn altered(seed: u64, alter: impl FnOnce(&mut InMemDicomObject)) -> Result<Instance> {
    altered_as(seed, uids::EXPLICIT_VR_LITTLE_ENDIAN, alter)
}

/// The same in another transfer syntax.
pub(super) fn altered_as(
    seed: u64,
    transfer_syntax: &str,
    alter: impl FnOnce(&mut InMemDicomObject),
) -> Result<Instance> {
    let whole = Study::seeded(seed).image(1)?;
    let mut object = dicom_object::from_reader(whole.to_part10()?.as_slice())?.into_inner();
    alter(&mut object);
    // The identifiers of the command stay: the file meta information, which names them too, is not sent.
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(transfer_syntax)
        .media_storage_sop_class_uid(&whole.sop_class_uid)
        .media_storage_sop_instance_uid(&whole.sop_instance_uid);
    let mut file = Vec::new();
    object.with_exact_meta(meta.build()?).write_all(&mut file)?;
    let data_set = instance::data_set(&file)?.to_vec();
    Ok(Instance { data_set, transfer_syntax_uid: transfer_syntax.to_owned(), ..whole })
}

/// A PDU (PS3.8 section 9.3.1).
pub(super) fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0][..], &u32::try_from(body.len()).unwrap_or(UNDEFINED).to_be_bytes(), body].concat()
}

/// A P-DATA-TF with one value. Control: 1 command, 2 last.
pub(super) fn value(context: u8, control: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 2).unwrap_or(UNDEFINED);
    pdu(4, &[&length.to_be_bytes()[..], &[context, control], data].concat())
}

/// A command set (PS3.7 section 6.3.1) with Message ID 7.
pub(super) fn command(field: u16, data_set: bool, more: &[(u16, &[u8])]) -> Vec<u8> {
    let field = field.to_le_bytes();
    let data_set: [u8; 2] = if data_set { [0, 0] } else { [1, 1] };
    let mut elements: Vec<(u16, &[u8])> = vec![(0x0100, &field), (0x0110, &[7, 0]), (0x0800, &data_set)];
    elements.extend(more);
    elements.sort_unstable_by_key(|(number, _)| *number);
    elements.into_iter().flat_map(|(number, value)| command_element(number, value)).collect()
}

/// One element of a command set.
pub(super) fn command_element(number: u16, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap_or(UNDEFINED);
    [&[0, 0][..], &number.to_le_bytes(), &length.to_le_bytes(), value].concat()
}

/// An A-ASSOCIATE-RQ that proposes abstract syntaxes, from context 1 on, in Implicit VR Little Endian.
pub(super) fn association_request(calling: &[u8], abstract_syntaxes: &[&str]) -> Vec<u8> {
    let sub = |kind: u8, content: &[u8]| {
        [&[kind, 0][..], &u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes(), content].concat()
    };
    let title = |title: &[u8]| {
        let mut padded = title.to_vec();
        padded.resize(16, b' ');
        padded
    };
    let contexts = abstract_syntaxes.iter().zip((1_u8..).step_by(2)).flat_map(|(class, id)| {
        let syntaxes = [sub(0x30, class.as_bytes()), sub(0x40, uids::IMPLICIT_VR_LITTLE_ENDIAN.as_bytes())].concat();
        sub(0x20, &[&[id, 0, 0, 0][..], &syntaxes].concat())
    });
    let body = [
        vec![0, 1, 0, 0],
        title(AE_TITLE.as_bytes()),
        title(calling),
        vec![0; 32],
        sub(0x10, b"1.2.840.10008.3.1.1.1"),
        contexts.collect(),
        sub(0x50, &sub(0x51, &16384_u32.to_be_bytes())),
    ];
    pdu(1, &body.concat())
}

/// A connection on which anything can be said.
pub(super) struct Line(TcpStream);

impl Line {
    pub(super) fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(40)))?;
        Ok(Self(stream))
    }

    /// Opens an association, too.
    pub(super) fn associated(address: &str, abstract_syntaxes: &[&str]) -> Result<(Self, Vec<u8>)> {
        let mut line = Self::open(address)?;
        line.say(&association_request(b"MODALITY", abstract_syntaxes));
        let (kind, answer) = line.hear()?.context("no answer to the association request")?;
        ensure!(kind == 2, "the association is answered with a PDU of type {kind}");
        Ok((line, answer))
    }

    /// It may hang up while we speak: that is for the listener to find out.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// The next PDU; none when the connection is over.
    pub(super) fn hear(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let mut header = [0; 6];
        if !self.fill(&mut header)? {
            return Ok(None);
        }
        let length = u32::from_be_bytes([header[2], header[3], header[4], header[5]]) as usize;
        ensure!(length < 1 << 20, "a PDU of {length} bytes");
        let mut body = vec![0; length];
        Ok(self.fill(&mut body)?.then_some((header[0], body)))
    }

    /// Fills the buffer; false when the connection is over, in order or not.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool> {
        match self.0.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("the connection is still open, and silent for 40 s")
            }
            Err(_) => Ok(false),
        }
    }

    /// Listens to the end; the types of the PDUs that came.
    pub(super) fn hear_all(&mut self) -> Result<Vec<u8>> {
        let mut kinds = Vec::new();
        while let Some((kind, _)) = self.hear()? {
            kinds.push(kind);
        }
        Ok(kinds)
    }

    /// The status of the next response.
    pub(super) fn status(&mut self) -> Result<u16> {
        let (kind, body) = self.hear()?.context("the connection ended in place of a response")?;
        ensure!(kind == 4, "a PDU of type {kind} in place of a response");
        // Behind the value's length, context and control: elements in order of their number.
        let mut elements = body.get(6..).unwrap_or_default();
        while let Some((head, rest)) = elements.split_first_chunk::<8>() {
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let value = rest.get(..length).context("a response that is cut short")?;
            if head[2..4] == [0x00, 0x09] {
                return Ok(u16::from_le_bytes([value[0], value[1]]));
            }
            elements = &rest[length..];
        }
        bail!("a response without a status")
    }
}
