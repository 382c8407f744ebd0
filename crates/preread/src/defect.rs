//! What a panic leaves in the log: the place in the source, and the thread. Not the message: it may quote a peer.

use std::{
    panic::{self, Location, PanicHookInfo},
    thread,
};

/// From here on a panic says where it was, and nothing of what it was about. To be called before anything else is done.
pub(crate) fn log_places_only() {
    panic::set_hook(Box::new(|info| {
        let line = sentence(info);
        // A library's logger is not asked before there is one, because it would swallow the only trace of a defect.
        if tracing::dispatcher::has_been_set() {
            tracing::error!("{line}");
        } else {
            eprintln!("preread: {line}");
        }
    }));
}

fn sentence(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), place);
    let current = thread::current();
    format!("a defect at {place}, in thread \"{}\"", current.name().unwrap_or("without a name"))
}

fn place(location: &Location<'_>) -> String {
    format!("{}:{}", of_no_machine(location.file()), location.line())
}

/// A file of the source as a person can find it, without the folders of the machine that compiled it: ours are relative
/// already, those of a library begin with its name and version.
fn of_no_machine(file: &str) -> &str {
    let after = |mark: &str| file.split_once(mark).and_then(|(_, rest)| rest.split_once('/')).map(|(_, rest)| rest);
    after("/registry/src/").or_else(|| after("/git/checkouts/")).or_else(|| after("/rustc/")).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{catch_unwind, set_hook, take_hook},
        sync::{Arc, Mutex},
    };

    use super::*;

    #[test]
    fn a_panic_says_its_place_and_thread_and_never_its_message() {
        const NAME: &str = "the one that panics";
        let said = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&said);
        let before = take_hook();
        set_hook(Box::new(move |info| {
            // Other tests of this process panic on purpose meanwhile.
            if thread::current().name() == Some(NAME) {
                listener.lock().unwrap().push(sentence(info));
            }
        }));
        let line = line!() + 2;
        let panics = || {
            let _ = catch_unwind(|| panic!("{}", std::hint::black_box("DOE^JANE")));
        };
        thread::Builder::new().name(NAME.to_owned()).spawn(panics).unwrap().join().unwrap();
        set_hook(before);
        let expected = format!("a defect at crates/preread/src/defect.rs:{line}, in thread \"{NAME}\"");
        assert_eq!(*said.lock().unwrap(), [expected]);
    }

    #[test]
    fn a_place_is_of_no_machine() {
        let check = |file: &str, expected: &str| assert_eq!(of_no_machine(file), expected);
        check("crates/pixel/src/jpeg.rs", "crates/pixel/src/jpeg.rs");
        check("/home/someone/.cargo/registry/src/index.crates.io-1949/toml-1.0.0/src/de.rs", "toml-1.0.0/src/de.rs");
        check("/home/someone/.cargo/git/checkouts/ort-9f/ab12cd/src/lib.rs", "ab12cd/src/lib.rs");
        check("/rustc/0123abcd/library/core/src/option.rs", "library/core/src/option.rs");
    }
}
