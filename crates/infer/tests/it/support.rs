//! Where the tests find the runtime and the reference models.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use infer::{Bundle, Image, Model, Runtime, SessionOptions};
use serde_json::Value;

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace exists")
}

pub(crate) fn runtime() -> Runtime {
    let named = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    let library = named.unwrap_or_else(|| workspace().join("target/onnxruntime/libonnxruntime.so"));
    assert!(library.exists(), "{} is missing; run: cargo xtask setup", library.display());
    Runtime::load(&library).expect("the runtime loads")
}

/// A folder of the reference material beside the checkout; none, with a line that says so, where it is absent.
pub(crate) fn reference(name: &str) -> Option<PathBuf> {
    present(workspace().join("../shared/vlm").join(name))
}

pub(crate) fn present(folder: PathBuf) -> Option<PathBuf> {
    if folder.exists() {
        return Some(folder);
    }
    println!("skipped: {} is not here", folder.display());
    None
}

pub(crate) fn model(folder: &Path) -> Model {
    let bundle = Bundle::open(folder).expect("the folder is a model");
    Model::load(&bundle, &runtime(), &SessionOptions { threads: 1, ..SessionOptions::default() })
        .expect("the model loads")
}

/// As [`model`], with graphs of a precision.
pub(crate) fn model_of(folder: &Path, precision: Option<&str>) -> Model {
    let bundle = Bundle::open_precision(folder, precision).expect("the folder is a model");
    Model::load(&bundle, &runtime(), &SessionOptions { threads: 1, ..SessionOptions::default() })
        .expect("the model loads")
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("readable")).expect("valid JSON")
}

pub(crate) fn image(path: &Path) -> Image {
    Image::decode(&fs::read(path).expect("readable")).expect("an image")
}

/// A copy of a model folder, to be changed.
pub(crate) fn copy(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (source, target) in [(from.to_owned(), dir.path().to_owned()), (from.join("onnx"), dir.path().join("onnx"))] {
        fs::create_dir_all(&target).expect("created");
        let Ok(entries) = fs::read_dir(&source) else { continue };
        for entry in entries.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file()) {
            let name = entry.file_name().expect("a name");
            fs::write(target.join(name), fs::read(&entry).expect("readable")).expect("written");
        }
    }
    dir
}
