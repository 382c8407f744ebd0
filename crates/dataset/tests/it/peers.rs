//! The same data sets as DCMTK's dcmdump and pydicom read them: what senders send that is not quite DICOM, in every
//! combination that chance makes up.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use dataset::{Instance, Limits, Tag};
use dicom_core::{header::Header as _, value::Value as Parsed};
use dicom_object::InMemDicomObject;

use crate::encode::{EXPLICIT, Element, Encoding, IMPLICIT, Item, Value, bytes, lie, meta_of, write};

const VARIANTS: usize = 300;

/// Numbers that are the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Elements for one level, in the order of their tags.
fn elements(chance: &mut Chance, explicit: bool, depth: usize) -> Vec<Element> {
    let mut made = vec![bytes(0x0008, 0x0104, b"LO", b"Chest ")];
    let items = |chance: &mut Chance, explicit| -> Vec<Item> {
        (0..chance.below(3)).map(|_| Item(chance.below(2) == 0, elements(chance, explicit, depth + 1))).collect()
    };
    if chance.below(2) == 0 {
        // Text, a sequence, or nothing where the dictionary has a sequence.
        let value = match chance.below(3) {
            0 if !explicit => Value::Bytes([&b"NONE"[..], b"Vendor Header Anonymizer", b""][chance.below(3)].to_vec()),
            _ if depth < 3 => Value::Sequence(chance.below(2) == 0, items(chance, explicit)),
            _ => Value::Bytes(Vec::new()),
        };
        made.push(Element { tag: Tag(0x0008, 0x1032), vr: *b"SQ", value });
    }
    made.push(bytes(0x0009, 0x0010, b"LO", b"ACME 1"));
    if explicit && depth < 3 && chance.below(2) == 0 {
        let value = Value::Unknown(items(chance, false));
        made.push(Element { tag: Tag(0x0009, 0x1001), vr: *b"UN", value });
    }
    if explicit && chance.below(2) == 0 {
        let code = [b"\0\0", b"  ", b"??", b"--"][chance.below(4)];
        let value = vec![b'a'; 2 * chance.below(5)];
        made.push(lie(0x0009, 0x1002, code, u32::try_from(value.len()).unwrap(), &value));
    }
    made.push(bytes(0x0009, 0x1003, b"UN", &vec![7; 2 * chance.below(20)]));
    made
}

/// Tags and values, level by level: what the script below prints.
fn brief(object: &InMemDicomObject) -> String {
    let mut said = String::new();
    for element in object {
        let (group, number) = (element.tag().group(), element.tag().element());
        write!(said, "{group:04x}{number:04x}").unwrap();
        match element.value() {
            Parsed::Sequence(sequence) => {
                sequence.items().iter().for_each(|item| write!(said, "[{}]", brief(item)).unwrap());
            }
            value => value.to_bytes().unwrap().iter().for_each(|byte| write!(said, "{byte:02x}").unwrap()),
        }
        said.push(' ');
    }
    said
}

const PYDICOM: &str = r#"
import sys, warnings, pathlib, pydicom
warnings.simplefilter("ignore")
# It would take what is no VR for a change to implicit VR; DCMTK takes it for a VR of the short form, as we do.
pydicom.config.assume_implicit_vr_switch = False
def brief(ds):
    said = ""
    for tag in sorted(ds.keys()):
        raw = ds._dict[tag]
        held = raw.value if isinstance(raw.value, bytes) or raw.value is None else None
        try: element = ds[tag]
        except Exception: element = None
        sequence = element is not None and element.VR == "SQ" and not isinstance(element.value, (bytes, str))
        # It takes the first letters of a text for an item.
        sequence = sequence and (held or b"\xfe\xff\x00\xe0").startswith(b"\xfe\xff\x00\xe0")
        said += "%04x%04x" % (tag.group, tag.element)
        if sequence: said += "".join("[" + brief(item) + "]" for item in element.value)
        else: said += (held or b"").hex()
        said += " "
    return said
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.dcm")):
    print(path.stem, brief(pydicom.dcmread(path)))
"#;

#[test]
fn dcmdump_and_pydicom_read_the_same() {
    let python = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/venv/bin/python");
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !there("dcmdump") || !python.is_file() {
        println!("skipped: dcmdump or pydicom is not here; get them with `cargo xtask setup --peers`");
        return;
    }
    let folder = std::env::temp_dir().join(format!("dataset-peers-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mut ours = Vec::new();
    let mut chance = Chance(1);
    let mut dumped_files = 0;
    for number in 0..VARIANTS {
        let encoding: Encoding = if number % 2 == 0 { EXPLICIT } else { IMPLICIT };
        let mut made = elements(&mut chance, encoding.explicit, 0);
        made.push(bytes(0x0010, 0x0010, b"PN", b"Doe^John"));
        let file = [meta_of(encoding.syntax().uid()).to_bytes(), write(&made, encoding)].concat();
        let path = folder.join(format!("{number:04}.dcm"));
        fs::write(&path, &file).unwrap();
        ours.push(brief(Instance::from_bytes(&file, &Limits::default()).unwrap().object()));
        // Of text where a sequence belongs dcmdump wants a delimiter.
        let has_text = [&b"NONE"[..], b"Vendor"].iter().any(|text| file.windows(text.len()).any(|part| part == *text));
        if number % 10 < 6 && !has_text {
            dumped_files += 1;
            let dumped = Command::new("dcmdump").args(["-q", "+P", "0010,0010"]).arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&dumped.stdout).into_owned();
            assert!(dumped.status.success() && said.contains("[Doe^John]"), "{}: {said}", path.display());
        }
    }
    assert!(dumped_files > VARIANTS / 10);
    let read = Command::new(&python).args(["-c", PYDICOM]).arg(&folder).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let theirs = String::from_utf8(read.stdout).unwrap();
    assert_eq!(theirs.lines().count(), VARIANTS);
    for (line, ours) in theirs.lines().zip(&ours) {
        let (number, theirs) = line.split_once(' ').unwrap();
        assert_eq!(theirs.trim(), ours.trim(), "{}", folder.join(number).display());
    }
    fs::remove_dir_all(&folder).unwrap();
}
