//! What of an instance comes before its pixels: everything that says what it shows, at the cost of its header.

use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::{Error, Instance, Limits, instance, large::regular, object, texts::Texts};

impl Instance {
    /// Opens a Part 10 file as [`Self::open`] does, but without Pixel Data and what follows it, which is not read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_front(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let mut file = regular(path)?;
        let (meta, header) = instance::header(&mut file, limits)?;
        let syntax = header.transfer_syntax;
        // Where the pixels of a deflated data set begin is no place in the file.
        if syntax.deflated() {
            return Self::open(path, limits);
        }
        if !syntax.can_be_parsed() {
            return Err(Error::RetiredTransferSyntax(syntax.uid()));
        }
        let scan = header.scan();
        let bytes = scan.pixel_data_at.map_or(scan.bytes, |pixels| pixels.element);
        let data_set = object::build_front(&mut file, bytes, syntax, limits)?;
        Self::made(header, meta, data_set, None)
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
        let mut items: Vec<(&InMemDicomObject, Texts)> = vec![(self.object(), Texts::of(self))];
        for sequence in path {
            let mut within = Vec::new();
            for (item, texts) in items {
                within.extend(items_of(item, *sequence).iter().map(|inner| (inner, texts.of_item(inner))));
            }
            items = within;
        }
        let code = |(item, texts): &(&InMemDicomObject, Texts)| {
            let text = |tag: Tag| item.get(tag).map(|element| texts.decode(element)).unwrap_or_default();
            let short = text(tags::CODE_VALUE);
            let value = if short.is_empty() { text(tags::LONG_CODE_VALUE) } else { short };
            Code { value, meaning: text(tags::CODE_MEANING) }
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
