//! ONNX Runtime itself: a shared library opened once per process.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ort::{LoadDynamicError, environment::Environment, logging::LogLevel};

use crate::error::{Error, Result};

/// The variable of the environment, and its value, that keeps ONNX Runtime from reporting to its maker. It counts only if it
/// is there before the library is loaded: builds from 1.31 on write a device id and look up a host as soon as they start,
/// whatever they are told afterwards.
pub const TELEMETRY_OFF: (&str, &str) = ("ORT_DISABLE_TELEMETRY", "1");

/// Whether [`TELEMETRY_OFF`] is set in this process.
pub fn telemetry_is_off() -> bool {
    env::var_os(TELEMETRY_OFF.0).is_some_and(|value| value == TELEMETRY_OFF.1)
}

/// Versions of ONNX Runtime that were watched with [`TELEMETRY_OFF`]: they open no socket and write no file.
pub const WATCHED_VERSIONS: [&str; 1] = ["1.31.1"];

/// The loaded ONNX Runtime library. Cheap to clone; every clone is the same library.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) environment: Environment,
    version: String,
    library: PathBuf,
}

/// ONNX Runtime allows one environment per process and does not survive being unloaded, so the first one stays.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Opens `library` (`libonnxruntime.so`) with `dlopen`. Later calls with the same file return the same runtime.
    ///
    /// # Errors
    /// [`Error::Runtime`] when the file is absent, is not ONNX Runtime, is older than the API this program was built
    /// for, when another library was loaded before, or when [`TELEMETRY_OFF`] is not set.
    pub fn load(library: &Path) -> Result<Self> {
        let fail = |problem: String| Error::Runtime { library: library.to_owned(), problem };
        if !telemetry_is_off() {
            let (name, value) = TELEMETRY_OFF;
            return Err(fail(format!(
                "it is not loaded, because it would report to its maker; set {name}={value} before the program starts"
            )));
        }
        let file = fs::canonicalize(library).map_err(|error| {
            fail(format!(
                "{error}; install ONNX Runtime 1.{} or newer and name its libonnxruntime.so (a checkout: cargo xtask setup)",
                ort::MINOR_VERSION
            ))
        })?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            if runtime.library == file {
                return Ok(runtime.clone());
            }
            return Err(fail(format!(
                "{} is already loaded and a process can hold only one; restart with the other file",
                runtime.library.display()
            )));
        }
        let builder = ort::init_from(&file).map_err(|error| fail(explain(error)))?;
        let environment = builder
            .with_name("infer")
            .with_telemetry(false)
            .build()
            .map_err(|error| fail(format!("it loads but does not start: {error}")))?;
        // The environment starts at VERBOSE, which formats a message per node and run only to drop it.
        environment.set_log_level(LogLevel::Warning);
        let version = version_of(&file).unwrap_or_else(|| ort::info().to_owned());
        tracing::info!(%version, library = %file.display(), "ONNX Runtime loaded");
        let runtime = Self { environment, version, library: file };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// The library's own version, such as `1.31.1`; its build description where the file does not carry one.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The file that was loaded, with symbolic links resolved.
    pub fn library(&self) -> &Path {
        &self.library
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("version", &self.version).field("library", &self.library).finish()
    }
}

fn explain(error: LoadDynamicError) -> String {
    let wanted = ort::MINOR_VERSION;
    match error {
        LoadDynamicError::Dlopen { error, .. } => {
            format!("it cannot be opened as a shared library ({error}); name the libonnxruntime.so of this platform")
        }
        LoadDynamicError::MissingApi { .. } | LoadDynamicError::InvalidVersionString => {
            "it is not an ONNX Runtime (no usable OrtGetApiBase); name a libonnxruntime.so".to_owned()
        }
        LoadDynamicError::BadVersion { version_str, .. } => {
            format!("it is ONNX Runtime {version_str}, but 1.{wanted} or newer is needed; install that")
        }
    }
}

/// The version from the ELF symbol version node (`VERS_1.31.1`) ONNX Runtime's build gives its exported symbols: the C
/// call that returns it is out of reach of safe code.
fn version_of(library: &Path) -> Option<String> {
    const NODE: &[u8] = b"VERS_";
    let bytes = fs::read(library).ok()?;
    let start = bytes.windows(NODE.len() + 1).position(|w| w.starts_with(NODE) && w[NODE.len()].is_ascii_digit())?;
    let tail = bytes[start + NODE.len()..].iter();
    let version: String = tail.take_while(|b| b.is_ascii_digit() || **b == b'.').map(|b| char::from(*b)).collect();
    Some(version)
}
