//! The header: read without the pixels, refused without identity.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use dataset::{Error, Header, Instance, Limits, TransferSyntax, gate, tags};

use crate::encode::{EXPLICIT, bytes, meta_of, write};

/// A file that counts what is read of it.
struct Counted {
    file: Cursor<Vec<u8>>,
    read: usize,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read += read;
        Ok(read)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn a_header_is_read_without_reading_pixels_and_says_what_a_whole_reading_says() {
    let pixels = vec![7; 1 << 20];
    let elements = [
        bytes(0x0008, 0x0018, b"UI", b"1.2\0"),
        bytes(0x0009, 0x1010, b"OB", &pixels),
        bytes(0x0010, 0x0010, b"PN", b"Doe "),
        bytes(0x7fe0, 0x0010, b"OW", &pixels),
        bytes(0xfffc, 0xfffc, b"OB", b"\0\0"),
    ];
    let data_set = write(&elements, EXPLICIT);
    for (cut, private, passes) in [
        (0, 0, true),
        (1, 0, false),
        // File meta information with something private that is longer than usual.
        (0, 5_000, true),
        // Without the last element.
        (14, 5_000, true),
        ((1 << 20) + 30, 0, false),
    ] {
        let mut meta = meta_of(TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN).to_bytes();
        if private > 0 {
            meta.extend(write(&[bytes(0x0002, 0x0102, b"OB", &vec![0; private])], EXPLICIT));
            let group_length = u32::try_from(meta.len() - 144).unwrap();
            meta[140..144].copy_from_slice(&group_length.to_le_bytes());
        }
        let data_set = &data_set[..data_set.len() - cut];
        let mut file = Counted { file: Cursor::new([&meta, data_set].concat()), read: 0 };
        let header = Header::read(&mut file, &Limits::default()).map_err(|error| error.to_string());
        let whole = gate::scan(data_set, Some(data_set.len() as u64), EXPLICIT.syntax(), &Limits::default());
        let whole = whole.map_err(|error| format!("data set refused: {error}"));
        assert_eq!(
            header.as_ref().map(|header| header.raw(tags::PATIENT_NAME)),
            whole.as_ref().map(|scan| scan.values.get(&tags::PATIENT_NAME).map(|value| value.bytes.as_slice())),
            "{cut} bytes short",
        );
        assert_eq!(header.is_ok(), passes, "{cut} bytes short");
        assert!(file.read < 96 << 10, "{} bytes were read", file.read);
    }
}

#[test]
fn an_instance_without_identity_is_refused_by_name() {
    let mut file = meta_of(TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN).to_bytes();
    file.extend(write(&[bytes(0x0008, 0x0016, b"UI", b"1.2\0"), bytes(0x0008, 0x0018, b"UI", b"1.3\0")], EXPLICIT));
    let instance = Instance::from_bytes(&file, &Limits::default()).unwrap();
    let refusal = instance.header.require_identity().unwrap_err();
    assert!(matches!(refusal, Error::MissingUid { tag: tags::STUDY_INSTANCE_UID, .. }), "{refusal}");
}
