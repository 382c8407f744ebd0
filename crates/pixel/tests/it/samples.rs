//! Small files of every codec, whose pixels were known before they were encoded: see `tests/samples/README.md`.

use std::{fs, path::PathBuf};

use dataset::Instance;
use pixel::{Limits, RenderOptions, describe, render};

#[test]
fn every_sample_is_what_was_encoded() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let expected = fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let mut wrong = Vec::new();
    for line in expected.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[name, shape, dtype, sha256_le] = fields.as_slice() else { panic!("{line}") };
        let instance = Instance::open(&folder.join(name), &dataset::Limits::default()).unwrap();
        let array = match describe(&instance, 0, &Limits::default()) {
            Ok(described) => described.array,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let found = array.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        if (found.as_str(), array.dtype, array.sha256_le.as_str()) != (shape, dtype, sha256_le) {
            let (min, max) = (array.min, array.max);
            wrong.push(format!("{name}: {found} {}, {min} to {max}, due is {shape} {dtype}", array.dtype));
        }
        render(&instance, 0, &RenderOptions::default(), &Limits::default()).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
