//! Files that a test writes itself: a small data set with native pixels.

use dataset::{Instance, Limits, TransferSyntax, part10::Meta};

/// Elements in the order they are put, in explicit VR; little endian unless the transfer syntax is the big endian one.
#[derive(Clone)]
pub(crate) struct File {
    bytes: Vec<u8>,
    big_endian: bool,
    frames: Option<u16>,
    planar: bool,
}

/// Implicit VR is not written: how values are read does not depend on it.
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub(crate) const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

impl File {
    pub(crate) fn new(syntax: &str) -> Self {
        let meta = Meta {
            sop_class_uid: None,
            sop_instance_uid: None,
            source_ae_title: None,
            transfer_syntax_uid: TransferSyntax::from_uid(syntax)
                .expect("a known syntax")
                .uid()
                .parse()
                .expect("a UID"),
        };
        Self { bytes: meta.to_bytes(), big_endian: syntax == BIG_ENDIAN, frames: None, planar: false }
    }

    /// Number of Frames of the image that is written next.
    pub(crate) fn frames(mut self, frames: u16) -> Self {
        self.frames = Some(frames);
        self
    }

    /// Planar Configuration 1 of the image that is written next.
    pub(crate) fn by_plane(mut self, planar: bool) -> Self {
        self.planar = planar;
        self
    }

    /// Rows, columns, samples and Photometric Interpretation; bits allocated, stored and the high bit; signed or not.
    pub(crate) fn image(mut self, size: [u16; 3], photometric: &str, bits: [u16; 3], signed: bool) -> Self {
        let [rows, columns, samples] = size;
        self = self.short(0x0028_0002, samples).text(0x0028_0004, b"CS", photometric);
        if samples > 1 {
            let planar = self.planar.into();
            self = self.short(0x0028_0006, planar);
        }
        if let Some(frames) = self.frames {
            self = self.text(0x0028_0008, b"IS", &frames.to_string());
        }
        self = self.short(0x0028_0010, rows).short(0x0028_0011, columns);
        for (number, value) in (0x0028_0100..).zip(bits) {
            self = self.short(number, value);
        }
        self.short(0x0028_0103, signed.into())
    }

    fn half(&mut self, value: u16) {
        self.bytes.extend(if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn word(&mut self, value: u32) {
        self.bytes.extend(if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    /// An element, its value in the byte order of the file.
    pub(crate) fn element(mut self, tag: u32, vr: &[u8; 2], value: &[u8]) -> Self {
        let [group, number] = [tag >> 16, tag & 0xffff].map(|half| u16::try_from(half).expect("a half"));
        self.half(group);
        self.half(number);
        self.bytes.extend(vr);
        let padded = value.len().next_multiple_of(2);
        if matches!(vr, b"OB" | b"OW" | b"OF" | b"OD" | b"SQ" | b"OV" | b"UN") {
            self.half(0);
            self.word(u32::try_from(padded).expect("a length"));
        } else {
            self.half(u16::try_from(padded).expect("a length"));
        }
        self.bytes.extend(value);
        let padding = if matches!(vr, b"CS" | b"DS" | b"IS" | b"LO") { b' ' } else { 0 };
        self.bytes.resize(self.bytes.len() + padded - value.len(), padding);
        self
    }

    pub(crate) fn short(self, tag: u32, value: u16) -> Self {
        self.shorts(tag, b"US", &[value])
    }

    /// Numbers of two bytes each: VR US, SS or OW.
    pub(crate) fn shorts(self, tag: u32, vr: &[u8; 2], values: &[u16]) -> Self {
        let big_endian = self.big_endian;
        let bytes = |value: &u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let value: Vec<u8> = values.iter().flat_map(bytes).collect();
        self.element(tag, vr, &value)
    }

    pub(crate) fn text(self, tag: u32, vr: &[u8; 2], value: &str) -> Self {
        self.element(tag, vr, value.as_bytes())
    }

    /// A sequence of items, each written by a function.
    pub(crate) fn sequence(mut self, tag: u32, items: &[&dyn Fn(Self) -> Self]) -> Self {
        let empty = Self { bytes: Vec::new(), big_endian: self.big_endian, frames: None, planar: false };
        let mut value = empty.clone();
        for write in items {
            let item = write(empty.clone());
            value.half(0xfffe);
            value.half(0xe000);
            value.word(u32::try_from(item.bytes.len()).expect("a length"));
            value.bytes.extend(item.bytes);
        }
        self = self.element(tag, b"SQ", &value.bytes);
        self
    }

    pub(crate) fn open(self) -> Instance {
        Instance::from_bytes(&self.bytes, &Limits::default()).expect("a data set that was written right")
    }
}
