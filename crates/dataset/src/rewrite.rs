//! A data set in another of the native transfer syntaxes, value by value and byte for byte: no text is decoded, so that
//! names stay what they were in whatever character set.

use std::{
    io::{Read, Seek},
    path::Path,
};

use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary, VirtualVr},
};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use crate::{
    Error, Limits, TransferSyntax,
    gate::{self, Element, GateError, Visit},
    instance,
    large::regular,
    object,
};

/// [`rewrite_bytes`] of a file.
pub fn rewritten(path: &Path, to: TransferSyntax, limits: &Limits) -> Result<Vec<u8>, Error> {
    rewrite_bytes(&mut regular(path)?, to, limits)
}

/// The data set of a Part 10 file in implicit or explicit VR little endian. Sequences become ones of undefined length, and
/// group lengths, which are retired and would be wrong, are left out.
///
/// Errors as [`crate::Instance::open`] does, with [`Error::UnknownTransferSyntax`] for another transfer syntax to write.
pub fn rewrite_bytes(file: &mut (impl Read + Seek), to: TransferSyntax, limits: &Limits) -> Result<Vec<u8>, Error> {
    let explicit = match to.uid() {
        TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN => true,
        TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN => false,
        other => return Err(Error::UnknownTransferSyntax(other.to_owned())),
    };
    let (_, header) = instance::header(file, limits)?;
    if !header.transfer_syntax.can_be_parsed() {
        return Err(Error::RetiredTransferSyntax(header.transfer_syntax.uid()));
    }
    let mut rewriter =
        Rewriter { explicit, bytes: Vec::new(), open: Vec::new(), left_out: 0, signed: false, limits: limits.clone() };
    gate::walk(file, header.transfer_syntax, limits, &mut rewriter)?;
    Ok(rewriter.bytes)
}

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_DELIMITATION: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_DELIMITATION: Tag = Tag(0xFFFE, 0xE0DD);

struct Rewriter {
    explicit: bool,
    bytes: Vec<u8>,
    /// What ends that which is open.
    open: Vec<Tag>,
    /// Fragments that have no place in implicit VR, while they are open.
    left_out: usize,
    /// Pixel Representation (0028,0103) says that pixels are signed, and with them what has their VR.
    signed: bool,
    /// What a sequence within a value may take.
    limits: Limits,
}

impl Rewriter {
    fn tag(&mut self, tag: Tag) {
        self.bytes.extend(tag.group().to_le_bytes());
        self.bytes.extend(tag.element().to_le_bytes());
    }

    /// An item or a delimiter.
    fn bare(&mut self, tag: Tag, length: u32) {
        self.tag(tag);
        self.bytes.extend(length.to_le_bytes());
    }

    fn header(&mut self, tag: Tag, vr: VR, length: u32) {
        self.tag(tag);
        if !self.explicit {
            return self.bytes.extend(length.to_le_bytes());
        }
        match u16::try_from(length) {
            Ok(length) if !gate::has_long_length(vr) => {
                self.bytes.extend(vr.to_bytes());
                self.bytes.extend(length.to_le_bytes());
            }
            short => {
                // Too long for its VR (PS3.5 6.2.2).
                let vr = if short.is_err() && !gate::has_long_length(vr) { VR::UN } else { vr };
                self.bytes.extend(vr.to_bytes());
                self.bytes.extend([0, 0]);
                self.bytes.extend(length.to_le_bytes());
            }
        }
    }
}

impl Rewriter {
    /// Where its bytes are no items to their end it stays UN, which implicit VR has no way to say.
    fn sequence_sent_as_un(&mut self, tag: Tag, bytes: &[u8]) {
        let start = self.bytes.len();
        self.header(tag, VR::SQ, u32::MAX);
        let depth = self.limits.depth.saturating_sub(self.open.len() / 2);
        let mut inner = Self {
            explicit: self.explicit,
            bytes: std::mem::take(&mut self.bytes),
            open: vec![SEQUENCE_DELIMITATION],
            left_out: 0,
            signed: self.signed,
            limits: Limits { depth, ..self.limits.clone() },
        };
        let walked = gate::walk_items_of_un(bytes, &inner.limits.clone(), &mut inner);
        self.bytes = inner.bytes;
        if walked.is_err() {
            self.bytes.truncate(start);
            if self.explicit {
                // A value is never longer than a length of 32 bits says.
                self.header(tag, VR::UN, u32::try_from(bytes.len()).unwrap_or(0));
                self.bytes.extend(bytes);
            }
        }
    }
}

impl Visit for Rewriter {
    const WANTS_VALUES: bool = true;

    fn begin(&mut self, element: &Element, fragments: bool) {
        if fragments && !self.explicit && element.tag != tags::PIXEL_DATA {
            // They would be taken for a sequence. There is nothing else in fragments.
            self.left_out += 1;
            return;
        }
        self.header(element.tag, if fragments { VR::OB } else { VR::SQ }, u32::MAX);
        self.open.push(SEQUENCE_DELIMITATION);
    }

    fn begin_item(&mut self) {
        self.bare(ITEM, u32::MAX);
        self.open.push(ITEM_DELIMITATION);
    }

    fn end(&mut self) {
        if self.left_out > 0 {
            self.left_out -= 1;
        } else if let Some(delimiter) = self.open.pop() {
            self.bare(delimiter, 0);
        }
    }

    fn value(&mut self, element: &Element, mut bytes: Vec<u8>) -> Result<(), GateError> {
        let Element { tag, vr, length, .. } = *element;
        if tag.element() == 0 {
            return Ok(());
        }
        if vr == VR::UN && object::is_sequence(tag, &bytes) {
            self.sequence_sent_as_un(tag, &bytes);
            return Ok(());
        }
        if element.big_endian {
            gate::swap(vr, &mut bytes);
        }
        if tag == tags::PIXEL_REPRESENTATION {
            self.signed = bytes.first() == Some(&1);
        }
        let of_pixels = || StandardDataDictionary.by_tag(tag).is_some_and(|entry| entry.vr == VirtualVr::Xs);
        let vr = if element.implied && vr == VR::US && self.signed && of_pixels() { VR::SS } else { vr };
        self.header(tag, vr, length);
        self.bytes.extend(bytes);
        Ok(())
    }

    fn fragment(&mut self, bytes: Vec<u8>, _: bool) {
        if self.left_out > 0 {
            return;
        }
        // It was no longer than a length of 32 bits says.
        self.bare(ITEM, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.bytes.extend(bytes);
    }
}
