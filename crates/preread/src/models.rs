//! The configured models: looked at when the daemon starts, loaded when the first study needs one.

use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use infer::{Bundle, Dispatcher, Model, Runtime, SessionOptions};
use pixel::ImagePolicy;

use crate::pipeline::image_policy;

/// Requests that may wait for one model. Studies wait in the spool, so that more than the running one is rare.
const QUEUE: usize = 8;

const LIBRARY: &str = "libonnxruntime.so";

const ADVICE: &str = "in a checkout `cargo xtask setup` gets it; elsewhere set ORT_DYLIB_PATH or runtime.library to the \
                      libonnxruntime.so of ONNX Runtime 1.24 or later";

/// Every model that a rule may name.
pub(crate) struct Models {
    library: Option<PathBuf>,
    options: SessionOptions,
    entries: HashMap<String, Entry>,
}

struct Entry {
    bundle: Bundle,
    policy: ImagePolicy,
    loaded: Mutex<Option<Arc<Dispatcher>>>,
}

impl Models {
    /// Looks at each folder and finds the library, without loading either. `library` is the configuration's.
    pub(crate) fn open<'a>(
        folders: impl Iterator<Item = (&'a str, &'a Path)>,
        library: Option<&Path>,
        threads: usize,
    ) -> Result<Self> {
        let mut entries = HashMap::new();
        for (name, folder) in folders {
            let bundle = Bundle::open(folder).with_context(|| format!("model \"{name}\""))?;
            bundle.check().with_context(|| format!("model \"{name}\""))?;
            let policy = image_policy(&bundle.manifest.images)
                .with_context(|| format!("model \"{name}\": {}", folder.join("model.toml").display()))?;
            entries.insert(name.to_owned(), Entry { bundle, policy, loaded: Mutex::new(None) });
        }
        let library = if entries.is_empty() { None } else { Some(find_library(library)?) };
        let options = if threads == 0 {
            SessionOptions::default()
        } else {
            SessionOptions { threads, ..SessionOptions::default() }
        };
        Ok(Self { library, options, entries })
    }

    /// One model, which is a script.
    #[cfg(test)]
    pub(crate) fn scripted(name: &str, folder: &Path, backend: infer::Scripted) -> Result<Self> {
        let dispatcher = Arc::new(Dispatcher::start(backend, QUEUE)?);
        let bundle = Bundle::open(folder)?;
        let policy = image_policy(&bundle.manifest.images)?;
        let entry = Entry { bundle, policy, loaded: Mutex::new(Some(dispatcher)) };
        Ok(Self {
            library: Some(PathBuf::new()),
            options: SessionOptions::default(),
            entries: HashMap::from([(name.to_owned(), entry)]),
        })
    }

    /// Another one.
    #[cfg(test)]
    pub(crate) fn and_scripted(mut self, name: &str, folder: &Path, backend: infer::Scripted) -> Result<Self> {
        self.entries.extend(Self::scripted(name, folder, backend)?.entries);
        Ok(self)
    }

    /// What is known of a model without loading it.
    pub(crate) fn bundle(&self, name: &str) -> Option<&Bundle> {
        self.entries.get(name).map(|entry| &entry.bundle)
    }

    /// Which images its manifest asks for.
    pub(crate) fn policy(&self, name: &str) -> Option<&ImagePolicy> {
        self.entries.get(name).map(|entry| &entry.policy)
    }

    /// Has a model of one image ask for others.
    #[cfg(test)]
    pub(crate) fn with_policy(mut self, policy: &ImagePolicy) -> Self {
        self.entries.values_mut().for_each(|entry| entry.policy = policy.clone());
        self
    }

    /// The thread that owns a model, which loads and warms it at the first call.
    pub(crate) fn dispatcher(&self, name: &str) -> Result<Arc<Dispatcher>> {
        let Some((entry, library)) = self.entries.get(name).zip(self.library.as_ref()) else {
            bail!("there is no model \"{name}\"");
        };
        let mut loaded = entry.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dispatcher) = &*loaded {
            return Ok(Arc::clone(dispatcher));
        }
        let runtime = Runtime::load(library)?;
        let mut model = Model::load(&entry.bundle, &runtime, &self.options)?;
        let warm_up = model.warm_up()?;
        tracing::info!(
            model = name,
            digest = entry.bundle.digest,
            onnxruntime = runtime.version(),
            load_ms = warm_up.load,
            "model loaded"
        );
        let dispatcher = Arc::new(Dispatcher::start(model, QUEUE)?);
        *loaded = Some(Arc::clone(&dispatcher));
        Ok(dispatcher)
    }
}

/// ONNX Runtime's library: `ORT_DYLIB_PATH`, the configuration, beside the binary, `target/` of a checkout.
pub(crate) fn find_library(configured: Option<&Path>) -> Result<PathBuf> {
    // What somebody named is used or is an error: looking further would run another library than the one they meant.
    let named = env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = named.or_else(|| configured.map(Path::to_owned)) {
        if path.is_file() {
            return Ok(path);
        }
        bail!("ONNX Runtime: {} (from ORT_DYLIB_PATH or runtime.library) is not there; {ADVICE}", path.display());
    }
    let mut places = Vec::new();
    if let Some(folder) = env::current_exe().ok().and_then(|binary| binary.parent().map(Path::to_owned)) {
        places.push(folder.join(LIBRARY));
        places.push(folder.join("../lib/preread").join(LIBRARY));
        // Where `cargo xtask setup` puts it, seen from target/debug.
        places.push(folder.join("../onnxruntime").join(LIBRARY));
    }
    places.push(Path::new("target/onnxruntime").join(LIBRARY));
    if let Some(found) = places.iter().find(|place| place.is_file()) {
        return Ok(found.clone());
    }
    let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    bail!("ONNX Runtime's {LIBRARY} was not found; looked at {}; {ADVICE}", looked.join(", "))
}
