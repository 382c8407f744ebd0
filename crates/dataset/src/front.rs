//! What of an instance comes before its pixels: everything that says what it shows, at the cost of its header.

use std::{
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::{FileMetaTable, InMemDicomObject};

use crate::{
    Error, Header, Instance, Limits, TransferSyntax,
    gate::{self, Scan},
    instance::{LONGEST_META_BYTES, bounded, head},
    large::regular,
    parse::parse,
    part10::{self, Meta},
};

impl Instance {
    /// Opens a Part 10 file as [`Self::open`] does, but without Pixel Data and what follows it, which is not read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_front(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let mut file = regular(path)?;
        bounded(file.seek(SeekFrom::End(0))?, limits)?;
        let (meta, data_set_at) = Meta::parse(&head(&mut file, LONGEST_META_BYTES)?)?;
        let syntax = TransferSyntax::from_uid(meta.transfer_syntax_uid.as_str())?;
        // Where the pixels of a deflated data set begin is no place in the file.
        if syntax.deflated() {
            return Self::open(path, limits);
        }
        file.seek(SeekFrom::Start(data_set_at as u64))?;
        let scan = gate::scan_seekable(&mut file, syntax, limits)?;
        let (bytes, elements) = scan.pixel_data_at.unwrap_or((scan.bytes, scan.elements));
        let front = Scan { bytes, elements, ..scan.clone() };
        let header = Header::from_scan(scan, syntax);
        if !syntax.can_be_parsed() {
            return Err(Error::RetiredTransferSyntax(syntax.uid()));
        }
        if let Some(why) = header.irregular() {
            return Err(Error::Irregular { uid: header.sop_instance_uid, why });
        }
        let mut data_set = Vec::new();
        file.seek(SeekFrom::Start(data_set_at as u64))?;
        file.take(bytes).read_to_end(&mut data_set)?;
        let parsed = parse(&data_set, syntax, &front, limits);
        let file_meta = FileMetaTable::from_reader(&meta.to_bytes()[part10::PREAMBLE..]);
        let (Ok(parsed), Ok(file_meta)) = (parsed, file_meta) else {
            return Err(Error::Parse(header.sop_instance_uid));
        };
        Ok(Self { header, meta, object: parsed.with_exact_meta(file_meta), pixels: None })
    }
}

/// A coded concept (PS3.3 section 8): what an item of a code sequence says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Code Value (0008,0100), or Long Code Value (0008,0119); empty when absent.
    pub value: String,
    /// Code Meaning (0008,0104); empty when absent. Free text of the sender.
    pub meaning: String,
}

impl Instance {
    /// The codes of every item that `path`, sequences from the outermost to the code sequence itself, leads to.
    pub fn codes(&self, path: &[Tag]) -> Vec<Code> {
        let mut items: Vec<&InMemDicomObject> = vec![&self.object];
        for sequence in path {
            items = items.into_iter().flat_map(|item| items_of(item, *sequence)).collect();
        }
        let text = |item: &InMemDicomObject, tag: Tag| {
            let text = item.get(tag).and_then(|element| element.to_str().ok()).unwrap_or_default();
            text.trim_matches(['\0', ' ']).to_owned()
        };
        let code = |item: &&InMemDicomObject| {
            let short = text(item, tags::CODE_VALUE);
            let value = if short.is_empty() { text(item, tags::LONG_CODE_VALUE) } else { short };
            Code { value, meaning: text(item, tags::CODE_MEANING) }
        };
        items.iter().map(code).collect()
    }
}

fn items_of(item: &InMemDicomObject, sequence: Tag) -> &[InMemDicomObject] {
    item.get(sequence).and_then(|element| element.items()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_is_the_whole_but_for_the_pixels() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/phantom-cxr/samples");
        let limits = Limits::default();
        for name in ["01-normal.dcm", "03-nodule-large.dcm", "04-consolidation.dcm"] {
            let path = samples.join(name);
            let (front, whole) =
                (Instance::open_front(&path, &limits).unwrap(), Instance::open(&path, &limits).unwrap());
            assert!(whole.element(tags::PIXEL_DATA).is_some() && front.element(tags::PIXEL_DATA).is_none(), "{name}");
            let before = |tag: &Tag| *tag < tags::PIXEL_DATA;
            let seen = |instance: &Instance| instance.object().tags().filter(before).collect::<Vec<_>>();
            assert_eq!(seen(&front), seen(&whole), "{name}");
            assert!(front.header.has_pixel_data());
            let regions = front.codes(&[tags::ANATOMIC_REGION_SEQUENCE]);
            let chest = Code { value: "51185008".to_owned(), meaning: "Chest".to_owned() };
            assert!(regions.is_empty() || regions == [chest], "{regions:?}");
            assert_eq!(name == "01-normal.dcm", !regions.is_empty());
        }
    }
}
