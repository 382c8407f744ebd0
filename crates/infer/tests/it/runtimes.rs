//! Loading ONNX Runtime, and refusing what is not one.

use std::{fs, path::Path, process::Command};

use infer::Runtime;

use crate::support::runtime;

fn refused(library: &Path, parts: &[&str]) {
    let error = Runtime::load(library).expect_err("not a usable runtime").to_string();
    for part in parts.iter().chain([&library.to_str().expect("UTF-8")]) {
        assert!(error.contains(part), "{part:?} not in {error:?}");
    }
}

#[test]
fn refuses_what_is_not_a_runtime_and_loads_one_afterwards() {
    let dir = tempfile::tempdir().expect("a folder");
    refused(&dir.path().join("absent.so"), &["No such file", "install ONNX Runtime 1.24"]);
    let text = dir.path().join("text.so");
    fs::write(&text, "not a library").expect("written");
    refused(&text, &["cannot be opened as a shared library"]);

    // Rust links with the C compiler, so one is there.
    let compiled = |name: &str, source: &str| {
        let (code, library) = (dir.path().join(format!("{name}.c")), dir.path().join(format!("{name}.so")));
        fs::write(&code, source).expect("written");
        let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&code).status();
        assert!(status.expect("cc runs").success());
        library
    };
    refused(&compiled("other", "int answer(void) { return 42; }"), &["not an ONNX Runtime"]);
    let old = "static const void *api(unsigned v) { return 0; }\n\
               static const char *version(void) { return \"1.16.3\"; }\n\
               static struct { const void *(*api)(unsigned); const char *(*version)(void); } base = { api, version };\n\
               const void *OrtGetApiBase(void) { return &base; }\n";
    refused(&compiled("old", old), &["ONNX Runtime 1.16.3", "1.24 or newer"]);

    let runtime = runtime();
    assert!(runtime.version().starts_with("1."), "{}", runtime.version());
    let again = Runtime::load(runtime.library()).expect("the same file again");
    assert_eq!(again.version(), runtime.version());
    refused(&text, &["is already loaded"]);
}
