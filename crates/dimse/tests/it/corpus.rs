//! The kept corpus of each fuzz target, through the function that is fuzzed.

use std::{
    collections::BTreeSet,
    fs,
    panic::{self, PanicHookInfo},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::bodies;

#[test]
fn the_kept_corpus_still_holds() {
    // A panic of the server is caught by its runtime, and counts all the same.
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let said_before: Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send> = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        said_before(panic);
    }));
    for (target, body) in [
        ("pdu", bodies::pdu as fn(&[u8]) -> Vec<u8>),
        ("association", bodies::association),
        ("command", bodies::command),
    ] {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut replayed = 0;
        let mut answers = BTreeSet::new();
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            answers.extend(body(&fs::read(&path).unwrap()));
            assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{}", path.display());
            replayed += 1;
        }
        assert!(replayed >= 10, "{target}: only {replayed} inputs");
        // Something is accepted, answered, released and aborted: the conversations are ones.
        assert!(answers.is_superset(&BTreeSet::from([2, 4, 6, 7])), "{target}: only PDUs of the types {answers:?}");
    }
}
