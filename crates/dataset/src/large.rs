//! Large native pixel data stays on the disk: a frame of it is read when somebody wants that frame, so that what an instance
//! takes of the memory does not depend on how many it has.

use std::{fs::File, io::Seek, os::unix::fs::FileExt, path::Path};

use dicom_core::Tag;

use crate::{Error, Instance, Limits, instance, object};

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

/// Opens a file without having all of it in memory: native pixel data is stepped over, but where the data set is deflated, so
/// that there is no place in the file where its pixels are, or where they are in an order of bytes that is not ours.
pub(crate) fn open(mut file: File, limits: &Limits) -> Result<Instance, Error> {
    let (meta, header) = instance::header(&mut file, limits)?;
    let syntax = header.transfer_syntax;
    if !syntax.can_be_parsed() {
        return Err(Error::RetiredTransferSyntax(syntax.uid()));
    }
    let data_set_at = file.stream_position()?;
    let pixels = header.scan().pixel_data_at.filter(|_| !syntax.deflated() && !syntax.big_endian());
    let Some((pixels, bytes)) = pixels.and_then(|pixels| Some((pixels, pixels.native?))) else {
        let (_, data_set) = object::build(&mut file, syntax, limits)?;
        return Instance::made(header, meta, data_set, None);
    };
    // What stands after the pixels is padding and signatures, which nobody reads.
    let data_set = object::build_front(&mut file, pixels.element, syntax, limits)?;
    let native = NativePixels { tag: pixels.tag, file, at: data_set_at + pixels.value, bytes: u64::from(bytes) };
    Instance::made(header, meta, data_set, Some(native))
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
    use crate::{Header, TransferSyntax, part10::Meta};

    #[test]
    fn pixels_on_the_disk_are_those_that_are_read_whole() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/phantom-cxr/samples/02-nodule-small.dcm");
        let limits = Limits::default();
        let whole = Instance::open(&path, &limits).unwrap();
        let large = open(regular(&path).unwrap(), &limits).unwrap();
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
    fn pixels_are_found_where_the_sender_wrote_in_the_other_vr_form() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/phantom-cxr/samples/02-nodule-small.dcm");
        let limits = Limits::default();
        let whole = Instance::open(&path, &limits).unwrap();
        let pixels = whole.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap();
        let [explicit, implicit] =
            [TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN, TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN];
        let file = std::env::temp_dir().join(format!("dataset-large-{}", std::process::id()));
        for (written, named) in [(explicit, implicit), (implicit, explicit), (implicit, implicit)] {
            let data_set = crate::rewritten(&path, TransferSyntax::from_uid(written).unwrap(), &limits).unwrap();
            let meta = Meta { transfer_syntax_uid: named.parse().unwrap(), ..whole.meta.clone() };
            let mut bytes = Vec::new();
            meta.write_file(&data_set, &mut bytes).unwrap();
            std::fs::write(&file, bytes).unwrap();
            let large = open(regular(&file).unwrap(), &limits).unwrap();
            let there = large.native_pixels().unwrap();
            assert_eq!(there.read(0, there.bytes()).unwrap(), *pixels, "{written} named {named}");
        }
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        for path in ["/dev/zero", "/tmp"] {
            assert!(matches!(Instance::open(path.as_ref(), &Limits::default()), Err(Error::NotAFile)), "{path}");
            assert!(matches!(Header::open(path.as_ref(), &Limits::default()), Err(Error::NotAFile)), "{path}");
        }
    }
}
