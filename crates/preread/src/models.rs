//! The configured models: looked at when the daemon starts, loaded when the first study needs one, unloaded when another
//! needs the room.

mod slot;

use std::{
    collections::HashMap,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use infer::{Bundle, Dispatcher, Model, Provider, Runtime, SessionOptions};
use pixel::ImagePolicy;

use self::slot::{NotThere, Slot};
use crate::{config, pipeline::image_policy};

/// Requests that may wait for one model: as many as `preread read --jobs` may prepare side by side. In the daemon studies wait
/// in the spool, so that more than the running one is rare.
const QUEUE: usize = 256;

const LIBRARY: &str = "libonnxruntime.so";

const ADVICE: &str = "in a checkout `cargo xtask setup` gets it; elsewhere set ORT_DYLIB_PATH or runtime.library to the \
                      libonnxruntime.so of ONNX Runtime 1.24 or later";

/// What stays free for everything else when nobody says how much models may take, in bytes.
const RESERVE: u64 = 1 << 30;

/// Every model that a rule may name.
pub(crate) struct Models(Arc<Shared>);

struct Shared {
    library: Option<PathBuf>,
    threads: usize,
    reuse_prompts: bool,
    /// What loaded models may take in all, where somebody said so.
    memory: Option<u64>,
    entries: HashMap<String, Entry>,
    loading: Loading,
    /// Counts uses, to know which is the longest ago.
    uses: AtomicU64,
}

struct Entry {
    bundle: Bundle,
    policy: ImagePolicy,
    provider: Provider,
    loaded: Slot<Dispatcher>,
}

/// Bytes that the models take which are being loaded, so that two do not count the same room. The lock is held while room
/// is made, never while a model is loaded.
#[derive(Default)]
struct Loading {
    bytes: Mutex<u64>,
    done: Condvar,
}

/// Room for a model that is being loaded.
struct Reserved<'a> {
    loading: &'a Loading,
    bytes: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        *self.loading.bytes.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.loading.done.notify_all();
    }
}

impl Entry {
    fn open(name: &str, folder: &Path, provider: Provider) -> Result<Self> {
        let bundle = Bundle::open(folder).with_context(|| format!("model \"{name}\""))?;
        bundle.check_texts().with_context(|| format!("model \"{name}\""))?;
        let policy = image_policy(&bundle.manifest.images)
            .with_context(|| format!("model \"{name}\": {}", folder.join("model.toml").display()))?;
        Ok(Self { bundle, policy, provider, loaded: Slot::empty() })
    }

    /// Bytes that the model takes when it is loaded, about: twice its files. Measured with ONNX Runtime 1.31 on a
    /// processor: 1.3 times float32 weights, and 1.9 times while they are loaded; 2.0 times those of 8 and 4 bits, which
    /// stay as they came beside the order that the processor wants.
    fn needs(&self) -> u64 {
        self.bundle.bytes().saturating_mul(2)
    }
}

/// A loaded model that could make room.
struct Candidate<T> {
    needs: u64,
    /// Somebody has a claim to it, so that it stays.
    in_use: bool,
    last_used: u64,
    model: T,
}

/// Which of the loaded models to unload so that there is room for `needs` more bytes, the longest unused first; the room
/// there would be when that is not enough.
fn to_unload<T>(needs: u64, room: u64, mut loaded: Vec<Candidate<T>>) -> Result<Vec<T>, u64> {
    loaded.sort_by_key(|candidate| candidate.last_used);
    let (mut room, mut chosen) = (room, Vec::new());
    for candidate in loaded.into_iter().filter(|candidate| !candidate.in_use) {
        if room >= needs {
            break;
        }
        room = room.saturating_add(candidate.needs);
        chosen.push(candidate.model);
    }
    if room >= needs { Ok(chosen) } else { Err(room) }
}

impl Models {
    /// Looks at each folder and finds the library, without loading either.
    pub(crate) fn open(models: &[config::ModelSection], runtime: &config::Runtime) -> Result<Self> {
        let entry = |model: &config::ModelSection| -> Result<(String, Entry)> {
            let provider = model.provider.unwrap_or(runtime.provider);
            Ok((model.name.clone(), Entry::open(&model.name, &model.path, provider)?))
        };
        let entries = models.iter().map(entry).collect::<Result<HashMap<_, _>>>()?;
        let library = if entries.is_empty() { None } else { Some(find_library(runtime.library.as_deref())?) };
        let opened = Self::of(entries, library, runtime);
        // What will never fit is better known now than when the first study comes.
        if let Some(memory) = opened.0.memory
            && let Some((name, entry)) = opened.0.entries.iter().find(|(_, entry)| entry.needs() > memory)
        {
            return Err(opened.0.too_little(name, entry.needs(), memory));
        }
        Ok(opened)
    }

    /// As [`Self::open`], for who only looks: the models that are there; what is not there yet; what is there and wrong.
    pub(crate) fn look(models: &[config::ModelSection], runtime: &config::Runtime) -> (Self, Vec<String>, Vec<String>) {
        let (mut entries, mut absent, mut wrong) = (HashMap::new(), Vec::new(), Vec::new());
        let later = "is not there; `preread serve` will not start without it";
        for model in models {
            let provider = model.provider.unwrap_or(runtime.provider);
            if !model.path.exists() {
                absent.push(format!("model \"{}\": {} {later}", model.name, model.path.display()));
                continue;
            }
            match Entry::open(&model.name, &model.path, provider) {
                Ok(entry) => drop(entries.insert(model.name.clone(), entry)),
                Err(error) => wrong.push(crate::told::told(&error)),
            }
        }
        let library = find_library(runtime.library.as_deref());
        if !models.is_empty() {
            absent.extend(library.as_ref().err().map(crate::told::told));
        }
        let looked = Self::of(entries, library.ok(), runtime);
        if let Some(memory) = looked.0.memory {
            let large = looked.0.entries.iter().filter(|(_, entry)| entry.needs() > memory);
            wrong.extend(large.map(|(name, entry)| looked.0.too_little(name, entry.needs(), memory).to_string()));
        }
        (looked, absent, wrong)
    }

    fn of(entries: HashMap<String, Entry>, library: Option<PathBuf>, runtime: &config::Runtime) -> Self {
        Self(Arc::new(Shared {
            library,
            threads: runtime.threads,
            reuse_prompts: runtime.reuse_prompts,
            memory: runtime.memory,
            entries,
            loading: Loading::default(),
            uses: AtomicU64::new(0),
        }))
    }

    /// Before anybody else has them.
    #[cfg(test)]
    fn entries_mut(&mut self) -> &mut HashMap<String, Entry> {
        // A thread that has loaded one is about to end.
        while Arc::strong_count(&self.0) > 1 {
            thread::yield_now();
        }
        &mut Arc::get_mut(&mut self.0).unwrap().entries
    }

    /// One model, which is a script.
    #[cfg(test)]
    pub(crate) fn scripted(name: &str, folder: &Path, backend: infer::Scripted) -> Result<Self> {
        let entry = Entry::open(name, folder, Provider::Cpu)?;
        entry.loaded.put(Ok(Dispatcher::start(backend, QUEUE)?), 0);
        let entries = HashMap::from([(name.to_owned(), entry)]);
        Ok(Self::of(entries, Some(PathBuf::new()), &config::Runtime::default()))
    }

    /// Another one.
    #[cfg(test)]
    pub(crate) fn and_scripted(mut self, name: &str, folder: &Path, backend: infer::Scripted) -> Result<Self> {
        let mut other = Self::scripted(name, folder, backend)?;
        self.entries_mut().extend(std::mem::take(other.entries_mut()));
        Ok(self)
    }

    /// Has the models write JSON.
    #[cfg(test)]
    pub(crate) fn writing_json(mut self) -> Self {
        let outputs = self.entries_mut().values_mut().map(|entry| &mut entry.bundle.manifest.output);
        outputs.for_each(|output| output.form = Some(infer::OutputForm::Json));
        self
    }

    /// Gives a model another manifest.
    #[cfg(test)]
    pub(crate) fn with_manifest(mut self, name: &str, manifest: infer::Manifest) -> Self {
        let entry = self.entries_mut().get_mut(name);
        entry.into_iter().for_each(|entry| entry.bundle.manifest = manifest.clone());
        self
    }

    /// Has the models read any image.
    #[cfg(test)]
    pub(crate) fn made_for_anything(mut self) -> Self {
        let manifests = self.entries_mut().values_mut().map(|entry| &mut entry.bundle.manifest);
        manifests.for_each(|it| (it.modality, it.body_part, it.view) = Default::default());
        self
    }

    /// What is known of a model without loading it.
    pub(crate) fn bundle(&self, name: &str) -> Option<&Bundle> {
        self.0.entries.get(name).map(|entry| &entry.bundle)
    }

    /// Which images its manifest asks for.
    pub(crate) fn policy(&self, name: &str) -> Option<&ImagePolicy> {
        self.0.entries.get(name).map(|entry| &entry.policy)
    }

    /// Has a model of one image ask for others.
    #[cfg(test)]
    pub(crate) fn with_policy(mut self, policy: &ImagePolicy) -> Self {
        self.entries_mut().values_mut().for_each(|entry| entry.policy = policy.clone());
        self
    }

    /// The thread that owns a model, which is loaded and warmed up when it is not. Who holds on to it keeps it loaded.
    ///
    /// A model is loaded on a thread of its own and may take longer than one study has time: then the next one finds it.
    ///
    /// # Errors
    /// When it cannot be loaded, or is not there by `until`.
    pub(crate) fn dispatcher(&self, name: &str, until: Instant) -> Result<Arc<Dispatcher>> {
        let shared = &self.0;
        let Some((entry, library)) = shared.entries.get(name).zip(shared.library.as_ref()) else {
            bail!("there is no model \"{name}\"");
        };
        let allowed = until.saturating_duration_since(Instant::now());
        let load = || {
            let (shared, name, library) = (Arc::clone(shared), name.to_owned(), library.clone());
            let begun = thread::Builder::new().name("load".to_owned()).spawn(move || {
                let Some(entry) = shared.entries.get(&name) else { return };
                // Whoever waits is told so, whatever happens.
                let loaded = catch_unwind(AssertUnwindSafe(|| shared.load(&name, entry, &library, allowed)));
                let loaded = loaded.unwrap_or_else(|_| bail!("loading it ended in a defect; the log has its place"));
                let (loaded, room) = match loaded {
                    Ok((dispatcher, room)) => (Ok(dispatcher), Some(room)),
                    Err(error) => (Err(crate::told::told(&error)), None),
                };
                entry.loaded.put(loaded, shared.next_use());
                // Not before it counts among the loaded ones.
                drop(room);
            });
            begun.map(drop).map_err(|error| format!("no thread to load it on: {error}"))
        };
        let say = |waited: Duration| {
            tracing::warn!(model = name, seconds = waited.as_secs(), "a study waits for this model to be loaded");
        };
        entry.loaded.get(until, shared.next_use(), load, say).map_err(|error| match error {
            NotThere::Failed(why) => anyhow::anyhow!(why),
            NotThere::Late => anyhow::anyhow!(
                "it was not loaded within {} s (study.deadline); it goes on being loaded, and `preread model check` says \
                 whether it ever is",
                allowed.as_secs_f64().round()
            ),
        })
    }
}

impl Shared {
    /// Loads a model, in room that it keeps, and warms it up, which may take as long as is `allowed`, once more.
    fn load(&self, name: &str, entry: &Entry, library: &Path, allowed: Duration) -> Result<(Dispatcher, Reserved<'_>)> {
        let room = self.reserve(name, entry, Instant::now() + allowed)?;
        let runtime = Runtime::load(library)?;
        let mut options =
            SessionOptions { provider: entry.provider, reuse_prompts: self.reuse_prompts, ..SessionOptions::default() };
        if self.threads > 0 {
            options.threads = self.threads;
        }
        let model = Model::load(&entry.bundle, &runtime, &options)?;
        let request = model.warm_up_request()?;
        let ran_by = model.graphs().first().map(|graph| graph.provider).unwrap_or_default();
        let dispatcher = Dispatcher::start(model, QUEUE)?;
        // Its thread interrupts a graph that does not come to an end.
        let warm_up = dispatcher.submit(request, Some(Instant::now() + allowed)).and_then(infer::Ticket::wait);
        let warm_up = warm_up.map_err(|error| match error {
            infer::Error::DeadlineExceeded => anyhow::anyhow!(
                "it did not write two tokens of a black image within {} s (study.deadline): too slow for this machine, or a \
                 graph without an end",
                allowed.as_secs_f64().round()
            ),
            error => error.into(),
        })?;
        tracing::info!(
            model = name,
            digest = entry.bundle.digest,
            onnxruntime = runtime.version(),
            provider = %ran_by,
            load_ms = warm_up.timings_ms.load,
            counted_mib = entry.needs() >> 20,
            "model loaded"
        );
        Ok((dispatcher, room))
    }

    /// Makes room for a model and keeps it until it is loaded; waits, at most until `until`, for others that are loaded now,
    /// if there could be room then.
    fn reserve(&self, name: &str, entry: &Entry, until: Instant) -> Result<Reserved<'_>> {
        let mut bytes = self.loading.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.make_room(name, entry, *bytes) {
                Ok(()) => {
                    let needs = entry.needs();
                    *bytes += needs;
                    return Ok(Reserved { loading: &self.loading, bytes: needs });
                }
                Err(error) if *bytes == 0 || Instant::now() >= until => return Err(error),
                Err(_) => {
                    let left = until.saturating_duration_since(Instant::now());
                    bytes = self.loading.done.wait_timeout(bytes, left).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed)
    }

    /// Unloads what nobody uses until a model fits, beside those that are being loaded, which take `loading` bytes.
    fn make_room(&self, name: &str, entry: &Entry, loading: u64) -> Result<()> {
        let mut others = Vec::new();
        for (other, entry) in self.entries.iter().filter(|(other, _)| *other != name) {
            if let Some(held) = entry.loaded.held() {
                let (in_use, last_used) = (held.in_use, held.last_used);
                others.push(Candidate { needs: entry.needs(), in_use, last_used, model: (other, held) });
            }
        }
        let taken: u64 = others.iter().map(|other| other.needs).sum();
        let Some(room) = self.room(taken.saturating_add(loading)) else { return Ok(()) };
        let needs = entry.needs();
        let chosen = to_unload(needs, room, others).map_err(|room| self.too_little(name, needs, room))?;
        for (other, held) in chosen {
            held.drop_it();
            tracing::info!(model = other, room_for = name, "model unloaded");
        }
        Ok(())
    }

    /// Bytes that there are for another model, beside loaded ones that take `taken`; none where nobody knows.
    fn room(&self, taken: u64) -> Option<u64> {
        match self.memory {
            Some(memory) => Some(memory.saturating_sub(taken)),
            None => Some(infer::available_memory()?.saturating_sub(RESERVE)),
        }
    }

    fn too_little(&self, name: &str, needs: u64, room: u64) -> anyhow::Error {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let limit = match self.memory {
            Some(memory) => format!("runtime.memory ({} MiB), less models in use", mib(memory)),
            None => format!("the memory available, less {} MiB for everything else", mib(RESERVE)),
        };
        anyhow::anyhow!(
            "model \"{name}\" takes about {} MiB (twice its files), and {limit}, leaves {} MiB; give the \
             machine more memory or set runtime.memory, or choose a smaller precision (key `precision` of model.toml)",
            mib(needs),
            room >> 20
        )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ModelSection, Runtime};

    #[test]
    fn what_nobody_uses_makes_room_the_longest_unused_first() {
        let loaded = |in_use: [bool; 3]| {
            let all = [("a", 10, 7), ("b", 20, 3), ("c", 30, 5)].into_iter().zip(in_use);
            all.map(|((model, needs, last_used), in_use)| Candidate { needs, in_use, last_used, model }).collect()
        };
        let check = |needs: u64, room: u64, in_use: [bool; 3], expected: Result<&[&str], u64>| {
            let found = to_unload(needs, room, loaded(in_use));
            assert_eq!(found, expected.map(<[&str]>::to_vec), "{needs} of {room}");
        };
        check(5, 5, [false; 3], Ok(&[]));
        check(5, 4, [false; 3], Ok(&["b"]));
        check(50, 0, [false; 3], Ok(&["b", "c"]));
        check(60, 0, [false; 3], Ok(&["b", "c", "a"]));
        check(61, 0, [false; 3], Err(60));
        check(5, 4, [false, true, false], Ok(&["c"]));
        // Nothing is unloaded in vain.
        check(50, 1, [false, true, true], Err(11));
    }

    /// `count` times the demonstration model, with room for `memory` bytes of them.
    fn demonstrations(count: usize, memory: u64) -> Option<Models> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let library = root.join("target/onnxruntime").join(LIBRARY);
        if !library.exists() {
            println!("skipped: {} is not here", library.display());
            return None;
        }
        let path = root.join("models/phantom-cxr");
        let model = |index: usize| ModelSection {
            name: format!("model {index}"),
            path: path.clone(),
            preload: false,
            provider: None,
        };
        let models: Vec<ModelSection> = (0..count).map(model).collect();
        let runtime = Runtime { library: Some(library), threads: 1, memory: Some(memory), ..Runtime::default() };
        Some(Models::open(&models, &runtime).unwrap())
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(120)
    }

    fn is_loaded(models: &Models, name: &str) -> bool {
        models.0.entries[name].loaded.held().is_some()
    }

    #[test]
    fn models_share_the_memory_there_is() {
        let Some(models) = demonstrations(3, u64::MAX) else { return };
        let needs = models.0.entries["model 0"].needs();
        let models = demonstrations(3, needs * 2 + needs / 2).unwrap();
        let first = models.dispatcher("model 0", soon()).unwrap();
        drop(models.dispatcher("model 1", soon()).unwrap());
        assert!(is_loaded(&models, "model 0") && is_loaded(&models, "model 1"));
        // The first is older, and in use.
        drop(models.dispatcher("model 2", soon()).unwrap());
        assert!(is_loaded(&models, "model 0") && !is_loaded(&models, "model 1") && is_loaded(&models, "model 2"));
        let again = models.dispatcher("model 0", soon()).unwrap();
        assert!(Arc::ptr_eq(&first, &again), "it was not loaded again");
        drop((first, again));
        drop(models.dispatcher("model 1", soon()).unwrap());
        assert!(is_loaded(&models, "model 0") && is_loaded(&models, "model 1") && !is_loaded(&models, "model 2"));

        let small = demonstrations(2, needs + needs / 2).unwrap();
        let kept = small.dispatcher("model 0", soon()).unwrap();
        let refused = small.dispatcher("model 1", soon()).map(|_| ()).unwrap_err().to_string();
        for part in ["model \"model 1\"", &format!("{} MiB", needs.div_ceil(1 << 20)), "runtime.memory", "precision"] {
            assert!(refused.contains(part), "{refused}\ndoes not say {part:?}");
        }
        assert!(is_loaded(&small, "model 0"));
        let library = small.0.library.clone();
        let section = ModelSection {
            name: "large".to_owned(),
            path: small.0.entries["model 0"].bundle.folder.clone(),
            preload: false,
            provider: None,
        };
        let runtime = Runtime { library, memory: Some(1 << 20), ..Runtime::default() };
        let never = Models::open(&[section], &runtime).map(|_| ()).unwrap_err().to_string();
        assert!(never.contains("model \"large\"") && never.contains("runtime.memory (1 MiB)"), "{never}");
        drop(kept);
        small.dispatcher("model 1", soon()).unwrap();
        assert!(!is_loaded(&small, "model 0"));
    }

    #[test]
    fn a_provider_that_is_not_there_is_named() {
        let Some(models) = demonstrations(1, u64::MAX) else { return };
        let mut models = models;
        models.entries_mut().values_mut().for_each(|entry| entry.provider = Provider::MiGraphX);
        let refused = models.dispatcher("model 0", soon()).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("without migraphx") && refused.contains("libonnxruntime.so"), "{refused}");
        models.entries_mut().values_mut().for_each(|entry| entry.provider = Provider::Auto);
        models.dispatcher("model 0", soon()).unwrap();
    }
}
