//! A sink in memory, a running server, DCMTK's programs, and instances to send.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dataset::{Header, Limits, part10::Meta};
use dimse::{
    AssociationInfo, CommitmentRequest, Deadlines, Destination, IncomingInstance, InstanceInfo, Peer, Refusal, Server,
    ServerConfig, Sink,
};
use tokio::{process::Command, sync::Semaphore, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";

/// At which step an instance is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Begin,
    Write,
    Commit,
}

#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) instances: Vec<(InstanceInfo, Vec<u8>)>,
    /// The step and refusal for the next instances, in order.
    pub(crate) refusals: Vec<Option<(Step, Refusal)>>,
    pub(crate) commitments: Vec<CommitmentRequest>,
    /// For the next requests for storage commitment, the last one first.
    pub(crate) commitment_refusals: Vec<Refusal>,
}

/// Keeps everything, refuses what it is told to.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) stored: Mutex<Stored>,
    pub(crate) opened: AtomicUsize,
    pub(crate) closed: AtomicUsize,
    pub(crate) abandoned: AtomicUsize,
    /// Each write takes a permit, if there is a gate.
    pub(crate) gate: Option<Semaphore>,
    /// Whether a release is refused.
    pub(crate) holds_on: bool,
}

pub(crate) struct Incoming {
    memory: Arc<Memory>,
    info: Option<InstanceInfo>,
    bytes: Vec<u8>,
    refusal: Option<(Step, Refusal)>,
}

/// A [`Memory`] as a sink; orphan rules ask for a type of our own around the `Arc`.
pub(crate) struct MemorySink(pub(crate) Arc<Memory>);

impl Sink for MemorySink {
    type Instance = Incoming;

    fn association_opened(&self, _: &Arc<AssociationInfo>) {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
    }

    fn association_closed(&self, _: &Arc<AssociationInfo>) {
        self.0.closed.fetch_add(1, Ordering::SeqCst);
    }

    async fn releasing(&self, _: &Arc<AssociationInfo>) -> Result<(), Refusal> {
        if self.0.holds_on { Err(Refusal::Failed) } else { Ok(()) }
    }

    async fn request_commitment(&self, request: CommitmentRequest) -> Result<(), Refusal> {
        let mut stored = self.0.stored.lock().unwrap();
        if let Some(refusal) = stored.commitment_refusals.pop() {
            return Err(refusal);
        }
        stored.commitments.push(request);
        Ok(())
    }

    async fn begin(&self, info: InstanceInfo) -> Result<Incoming, Refusal> {
        let mut stored = self.0.stored.lock().unwrap();
        let refusal = if stored.refusals.is_empty() { None } else { stored.refusals.remove(0) };
        if let Some((Step::Begin, refusal)) = refusal {
            return Err(refusal);
        }
        Ok(Incoming { memory: Arc::clone(&self.0), info: Some(info), bytes: Vec::new(), refusal })
    }
}

impl IncomingInstance for Incoming {
    async fn write(&mut self, data: &[u8]) -> Result<(), Refusal> {
        if let Some(gate) = &self.memory.gate {
            gate.acquire().await.unwrap().forget();
        }
        self.bytes.extend_from_slice(data);
        match &self.refusal {
            Some((Step::Write, refusal)) => Err(refusal.clone()),
            _ => Ok(()),
        }
    }

    async fn commit(mut self) -> Result<(), Refusal> {
        if let Some((Step::Commit, refusal)) = &self.refusal {
            return Err(refusal.clone());
        }
        let instance = (self.info.take().unwrap(), std::mem::take(&mut self.bytes));
        self.memory.stored.lock().unwrap().instances.push(instance);
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.info.is_some() {
            self.memory.abandoned.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Running {
    /// The plain listener's, if there is one.
    pub(crate) address: SocketAddr,
    pub(crate) tls_address: Option<SocketAddr>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(config: ServerConfig, memory: Memory) -> Self {
        let server = Server::bind(config).await.unwrap();
        let tls_address = server.tls_addr();
        let address = server.local_addr().or(tls_address).unwrap();
        let (memory, stop) = (Arc::new(memory), CancellationToken::new());
        let serving = tokio::spawn(server.serve(Arc::new(MemorySink(Arc::clone(&memory))), stop.clone()));
        Self { address, tls_address, memory, stop, serving }
    }

    pub(crate) async fn usual() -> Self {
        Self::start(config(), Memory::default()).await
    }

    pub(crate) fn destination(&self) -> Destination {
        destination("PREREAD", self.address.port())
    }

    /// Waits until as many associations were closed as were opened, at least `count`.
    pub(crate) async fn all_closed(&self, count: usize) {
        for _ in 0..200 {
            let (opened, closed) =
                (self.memory.opened.load(Ordering::SeqCst), self.memory.closed.load(Ordering::SeqCst));
            if opened == closed && closed >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("associations are still open after 5 s");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn config() -> ServerConfig {
    let mut config = ServerConfig::new("PREREAD".parse().unwrap());
    config.address = Some("127.0.0.1:0".parse().unwrap());
    config.deadlines = Deadlines { stop: Duration::from_millis(300), ..Deadlines::default() };
    config
}

pub(crate) fn peer(addresses: &str, ae_title: &str) -> Peer {
    let addresses = vec![addresses.parse().unwrap()];
    Peer { name: "pacs".to_owned(), addresses, ae_title: ae_title.to_owned(), ..Peer::loopback() }
}

pub(crate) fn destination(ae_title: &str, port: u16) -> Destination {
    format!("{ae_title}@127.0.0.1:{port}").parse().unwrap()
}

/// A port that was free a moment ago, for programs that cannot take port 0. None of those that the system gives to outgoing
/// connections: after many of them a program that minds cannot listen there for a minute.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = usize::try_from(std::process::id()).unwrap() * 7;
    let mut ports = (0..10_000).map(|_| 20_000 + (first + NEXT.fetch_add(1, Ordering::SeqCst)) % 10_000);
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", u16::try_from(*port).unwrap())).is_ok());
    u16::try_from(free.expect("a port is free")).unwrap()
}

/// Makes a program of DCMTK ready to start; without DCMTK the test fails and says what to install.
pub(crate) fn dcmtk(program: &str) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    assert!(found, "{program} is not installed: run `apt-get install dcmtk`");
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a program of DCMTK to its end.
pub(crate) async fn run(mut command: Command) -> (bool, String) {
    let Output { status, stdout, stderr } =
        timeout(Duration::from_secs(60), command.output()).await.expect("it ends within a minute").unwrap();
    (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// A file of the shared test set, or `None` with a line when the set is not there.
pub(crate) fn shared(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/dicom").join(file);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no shared test file {file}");
    None
}

/// The files of the shared test set, by folder.
pub(crate) fn shared_files(folders: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in folders.iter().filter_map(|folder| shared(folder)) {
        files.extend(std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "dcm"));
    files.sort();
    files
}

/// File meta information and data set of a Part 10 file.
pub(crate) fn split(path: &Path) -> (Meta, Vec<u8>) {
    let bytes = std::fs::read(path).unwrap();
    let (meta, at) = Meta::parse(&bytes).unwrap();
    (meta, bytes[at..].to_vec())
}

/// Leaves out files of an SOP Instance that another one has, of a syntax that the gate does not know, and those that say
/// something else in their file meta information than in their data set.
pub(crate) fn distinct(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = std::collections::BTreeSet::new();
    let own = |path: &PathBuf| Header::open(path, &Limits::default()).ok().map(|header| header.sop_instance_uid);
    let agrees = |path: &PathBuf| own(path).filter(|uid| split(path).0.sop_instance_uid.as_ref() == Some(uid));
    files.into_iter().filter(|path| agrees(path).is_some_and(|uid| seen.insert(uid))).collect()
}

/// A data set in Explicit VR Little Endian with the four identifiers and `size` bytes of private data.
pub(crate) fn data_set(instance: &str, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut uid = |group: u16, element: u16, value: &str| {
        let mut value = value.as_bytes().to_vec();
        value.resize(value.len().next_multiple_of(2), 0);
        bytes.extend_from_slice(&group.to_le_bytes());
        bytes.extend_from_slice(&element.to_le_bytes());
        bytes.extend_from_slice(b"UI");
        bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&value);
    };
    uid(0x0008, 0x0016, CT);
    uid(0x0008, 0x0018, instance);
    uid(0x0020, 0x000d, "1.2.3");
    uid(0x0020, 0x000e, "1.2.3.4");
    bytes.extend_from_slice(&[0xe0, 0x7f, 0x10, 0, b'O', b'W', 0, 0]);
    bytes.extend_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
    bytes.extend((0..size).map(|at| u8::try_from(at % 251).unwrap()));
    bytes
}

/// Writes [`data_set`] as a Part 10 file.
pub(crate) fn file(folder: &Path, instance: &str, size: usize) -> PathBuf {
    let meta = Meta {
        sop_class_uid: CT.parse().ok(),
        sop_instance_uid: instance.parse().ok(),
        transfer_syntax_uid: EXPLICIT.parse().unwrap(),
        source_ae_title: None,
    };
    let path = folder.join(format!("{instance}.dcm"));
    meta.write_file(&data_set(instance, size), std::fs::File::create(&path).unwrap()).unwrap();
    path
}
