//! The kept corpus of each fuzz target, through the function that is fuzzed.

use std::{fs, path::PathBuf};

use crate::bodies;

#[test]
fn the_kept_corpus_still_holds() {
    for (target, body) in [
        ("frame", bodies::frame as fn(&[u8])),
        ("jpeg", bodies::jpeg),
        ("jpeg_2000", bodies::jpeg_2000),
        ("jpeg_ls", bodies::jpeg_ls),
        ("jpeg_xl", bodies::jpeg_xl),
        ("rle", bodies::rle),
    ] {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut replayed = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            body(&fs::read(entry.unwrap().path()).unwrap());
            replayed += 1;
        }
        assert!(replayed >= 10, "{target}: only {replayed} inputs");
    }
}
