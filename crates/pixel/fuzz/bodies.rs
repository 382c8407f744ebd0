//! What is fuzzed, as functions of the input: the fuzz targets run them on what libFuzzer makes up, a test runs them on
//! the corpus that is kept. A property that does not hold panics.

use std::{sync::Once, time::Duration};

use dataset::{Instance, TransferSyntax, part10::Meta};
use pixel::{Description, Error, Limits, RenderOptions};

/// Small, so that what is beyond them is found soon.
fn limits() -> Limits {
    Limits {
        pixels_per_frame: 1 << 16,
        frames: 4,
        memory_per_frame: 256 << 20,
        time_per_frame: Duration::from_secs(10),
        ..Limits::default()
    }
}

/// A file: whatever it is, it is described and rendered the same way twice, or refused.
pub(crate) fn frame(input: &[u8]) {
    let limits = dataset::Limits { instance_bytes: 1 << 20, inflated_bytes: 1 << 20, ..dataset::Limits::default() };
    if let Ok(instance) = Instance::from_bytes(input, &limits) {
        let _ = seen(&instance);
    }
}

pub(crate) fn jpeg(input: &[u8]) {
    codestream(
        input,
        &["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"],
    );
}

pub(crate) fn jpeg_2000(input: &[u8]) {
    codestream(input, &["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.203"]);
}

pub(crate) fn jpeg_ls(input: &[u8]) {
    codestream(input, &["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"]);
}

pub(crate) fn jpeg_xl(input: &[u8]) {
    codestream(input, &["1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.112"]);
}

pub(crate) fn rle(input: &[u8]) {
    codestream(input, &["1.2.840.10008.1.2.5"]);
}

/// Bytes before a codestream: which transfer syntax; rows and columns less 1; flags, 1 colour, 2 sixteen bits, 4 signed,
/// 8 MONOCHROME1; bits stored.
pub(crate) const PREFIX: usize = 5;

fn codestream(input: &[u8], syntaxes: &[&str]) {
    let Some((&[syntax, rows, columns, flags, bits_stored], data)) = input.split_first_chunk::<PREFIX>() else {
        return;
    };
    let uid = syntaxes[usize::from(syntax) % syntaxes.len()];
    let bits = if flags & 2 != 0 { 16u16 } else { 8 };
    let colour = flags & 1 != 0;
    let photometric = match (colour, flags & 8 != 0) {
        (true, _) => "RGB",
        (false, true) => "MONOCHROME1",
        (false, false) => "MONOCHROME2",
    };
    let stored = u16::from(bits_stored).clamp(1, bits);
    let file = file(uid, |set| {
        set.short(0x0002, if colour { 3 } else { 1 });
        set.text(0x0004, photometric);
        set.short(0x0006, 0);
        set.short(0x0010, u16::from(rows) + 1);
        set.short(0x0011, u16::from(columns) + 1);
        set.short(0x0100, bits);
        set.short(0x0101, stored);
        set.short(0x0102, stored - 1);
        set.short(0x0103, u16::from(flags & 4 != 0));
        set.fragment(data);
    });
    let instance = Instance::from_bytes(&file, &dataset::Limits::default()).expect("a data set that was written right");
    let _ = seen(&instance);
}

/// What is made of an instance, with what must hold of it.
fn seen(instance: &Instance) -> Result<Description, Error> {
    // A decoder's panic becomes an error at the seam, and is none of ours: libFuzzer must not count it.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let said_before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let ours = panic.location().is_some_and(|at| !at.file().contains("/registry/"));
            if ours {
                said_before(panic);
            }
        }));
    });
    let limits = limits();
    let description = pixel::describe(instance, 0, &limits)?;
    let picture = pixel::render(instance, 0, &RenderOptions::default(), &limits)?;
    let pixels = picture.width as usize * picture.height as usize;
    assert!(pixels as u64 <= limits.pixels_per_frame);
    assert_eq!(picture.rgb.len(), pixels * 3);
    assert!(picture.aspect.is_finite() && picture.aspect > 0.0);
    assert!((0.0..=255.0).contains(&description.voi8.mean), "{}", description.voi8.mean);
    assert!(description.voi8.grid16.iter().flatten().all(|level| (0.0..=255.0).contains(level)));
    assert_eq!(pixel::describe(instance, 0, &limits).as_ref(), Ok(&description));
    Ok(description)
}

/// A file in explicit VR little endian with the image that `write` adds.
fn file(uid: &str, write: impl FnOnce(&mut DataSet)) -> Vec<u8> {
    let meta = Meta {
        sop_class_uid: None,
        sop_instance_uid: None,
        source_ae_title: None,
        transfer_syntax_uid: TransferSyntax::from_uid(uid).expect("a known syntax").uid().parse().expect("a UID"),
    };
    let mut set = DataSet(meta.to_bytes());
    write(&mut set);
    set.0
}

/// Elements of group 0028 and encapsulated pixel data, in the order of their tags.
struct DataSet(Vec<u8>);

impl DataSet {
    fn element(&mut self, number: u16, vr: &[u8; 2], value: &[u8]) {
        self.0.extend(0x0028u16.to_le_bytes().into_iter().chain(number.to_le_bytes()));
        self.0.extend(vr);
        let padded = value.len().next_multiple_of(2);
        self.0.extend(u16::try_from(padded).expect("a short value").to_le_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len() + padded - value.len(), b' ');
    }

    fn short(&mut self, number: u16, value: u16) {
        self.element(number, b"US", &value.to_le_bytes());
    }

    fn text(&mut self, number: u16, value: &str) {
        self.element(number, b"CS", value.as_bytes());
    }

    fn fragment(&mut self, data: &[u8]) {
        self.0.extend([0xe0, 0x7f, 0x10, 0, b'O', b'B', 0, 0, 0xff, 0xff, 0xff, 0xff]);
        self.0.extend([0xfe, 0xff, 0, 0xe0, 0, 0, 0, 0, 0xfe, 0xff, 0, 0xe0]);
        let padded = data.len().next_multiple_of(2);
        self.0.extend(u32::try_from(padded).expect("a fragment").to_le_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len() + padded - data.len(), 0);
        self.0.extend([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
    }
}
