//! What is fuzzed, as functions of the input: the fuzz targets run them on what libFuzzer makes up, a test runs them on
//! the corpus that is kept. Each is a conversation with a server, over a connection as every other, so that nothing of
//! the way of the bytes is left out. A property that does not hold panics. What is answered are the types of the PDUs
//! that came back, none where the connection was reset.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dimse::{
    AssociationInfo, CommitmentRequest, CommitmentResult, IncomingInstance, InstanceInfo, Refusal, Server,
    ServerConfig, Sink,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    runtime::{Builder, Runtime},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const MAX_PDU_LENGTH: u32 = 8 << 10;
const MAX_INSTANCE_BYTES: u64 = 16 << 10;

/// The first byte says whether an association is open before the rest comes, which is sent as it is.
pub(crate) fn pdu(input: &[u8]) -> Vec<u8> {
    let Some((choice, rest)) = input.split_first() else { return Vec::new() };
    if choice % 2 == 0 { converse(rest) } else { converse(&[&association_request(), rest].concat()) }
}

/// An A-ASSOCIATE-RQ behind its header (PS3.8 section 9.3.2), and then an echo and a release on what it asked for.
pub(crate) fn association(input: &[u8]) -> Vec<u8> {
    let mut bytes = pdu_of(1, input);
    bytes.extend(value_of(1, 3, &command_set(0x0030, false, &[])));
    bytes.extend(pdu_of(5, &[0; 4]));
    converse(&bytes)
}

/// How the fragments come, how long the command is, a command set (PS3.7 section 6.3), and the data set that follows.
pub(crate) fn command(input: &[u8]) -> Vec<u8> {
    let Some((&[choice, low, high], rest)) = input.split_first_chunk::<3>() else { return Vec::new() };
    let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (command, data_set) = rest.split_at(length);
    let context = [1, 3, 5, 7][usize::from(choice & 3)];
    let mut bytes = association_request();
    if choice & 4 == 0 {
        bytes.extend(value_of(context, 3, command));
    } else {
        let (first, last) = command.split_at(length / 2);
        bytes.extend(value_of(context, 1, first));
        bytes.extend(value_of(context, 3, last));
    }
    if choice & 8 == 0 {
        for fragment in data_set.chunks(MAX_PDU_LENGTH as usize - 6) {
            bytes.extend(value_of(context, 0, fragment));
        }
        bytes.extend(value_of(context, 2, &[]));
    }
    bytes.extend(pdu_of(5, &[0; 4]));
    converse(&bytes)
}

fn pdu_of(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a short input");
    [&[kind, 0][..], &length.to_be_bytes(), body].concat()
}

/// A P-DATA-TF with one value.
fn value_of(context: u8, control: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 2).expect("a short input");
    pdu_of(4, &[&length.to_be_bytes()[..], &[context, control], data].concat())
}

/// A command with Command Field, Message ID and Data Set Type, and more elements.
fn command_set(field: u16, data_set: bool, more: &[(u16, &[u8])]) -> Vec<u8> {
    let field = field.to_le_bytes();
    let data_set: [u8; 2] = if data_set { [0, 0] } else { [1, 1] };
    let mut elements: Vec<(u16, &[u8])> = vec![(0x0100, &field), (0x0110, &[7, 0]), (0x0800, &data_set)];
    elements.extend(more);
    elements.sort_unstable_by_key(|(number, _)| *number);
    let mut bytes = Vec::new();
    for (number, value) in elements {
        bytes.extend([0, 0]);
        bytes.extend(number.to_le_bytes());
        bytes.extend(u32::try_from(value.len()).expect("a short value").to_le_bytes());
        bytes.extend(value);
    }
    bytes
}

/// Asks for verification, CT images in two transfer syntaxes, and storage commitment.
fn association_request() -> Vec<u8> {
    let item = |kind: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).expect("a short item");
        [&[kind, 0][..], &length.to_be_bytes(), content].concat()
    };
    let context = |id: u8, class: &[u8], syntax: &[u8]| {
        item(0x20, &[&[id, 0, 0, 0][..], &item(0x30, class), &item(0x40, syntax)].concat())
    };
    let user = [item(0x51, &16384_u32.to_be_bytes()), item(0x52, b"1.2.3")].concat();
    let body = [
        &[0, 1, 0, 0][..],
        b"PREREAD         FUZZ            ",
        &[0; 32],
        &item(0x10, b"1.2.840.10008.3.1.1.1"),
        &context(1, b"1.2.840.10008.1.1", b"1.2.840.10008.1.2"),
        &context(3, b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.1.2"),
        &context(5, b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.1.2.1"),
        &context(7, b"1.2.840.10008.1.20.1", b"1.2.840.10008.1.2"),
        &item(0x50, &user),
    ];
    pdu_of(1, &body.concat())
}

/// Counts, keeps nothing, and finds every instance good.
#[derive(Default)]
struct Counting {
    opened: AtomicUsize,
    closed: AtomicUsize,
    received: AtomicUsize,
}

struct Counted(Arc<Counting>);

struct Instance(Arc<Counting>);

impl Sink for Counted {
    type Instance = Instance;

    fn association_opened(&self, _: &Arc<AssociationInfo>) {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
    }

    fn association_closed(&self, _: &Arc<AssociationInfo>) {
        self.0.closed.fetch_add(1, Ordering::SeqCst);
    }

    async fn releasing(&self, _: &Arc<AssociationInfo>) -> Result<(), Refusal> {
        Ok(())
    }

    async fn begin(&self, info: InstanceInfo) -> Result<Instance, Refusal> {
        assert!(info.sop_instance_uid.as_str().bytes().all(|byte| byte == b'.' || byte.is_ascii_digit()));
        Ok(Instance(Arc::clone(&self.0)))
    }

    async fn request_commitment(&self, request: CommitmentRequest) -> Result<(), Refusal> {
        let result = CommitmentResult {
            transaction_uid: request.transaction_uid,
            committed: request.instances,
            failed: Vec::new(),
        };
        tokio::spawn(async move { request.reporter.report(result).await });
        Ok(())
    }
}

impl IncomingInstance for Instance {
    async fn write(&mut self, data: &[u8]) -> Result<(), Refusal> {
        let received = self.0.received.fetch_add(data.len(), Ordering::SeqCst);
        assert!(received as u64 <= MAX_INSTANCE_BYTES, "more of an instance than allowed");
        Ok(())
    }

    async fn commit(self) -> Result<(), Refusal> {
        Ok(())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.0.received.store(0, Ordering::SeqCst);
    }
}

/// A server and everything that it needs, one for all conversations of a thread.
struct Playground {
    runtime: Runtime,
    address: SocketAddr,
    counting: Arc<Counting>,
}

impl Playground {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let counting = Arc::new(Counting::default());
        let mut config = ServerConfig::new("PREREAD".parse().expect("a title"));
        config.address = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.max_pdu_length = MAX_PDU_LENGTH;
        config.max_instance_bytes = MAX_INSTANCE_BYTES;
        let sink = Arc::new(Counted(Arc::clone(&counting)));
        let address = runtime.block_on(async {
            let server = Server::bind(config).await.expect("a free port");
            let address = server.local_addr().expect("a plain listener");
            tokio::spawn(server.serve(sink, CancellationToken::new()));
            address
        });
        Self { runtime, address, counting }
    }

    /// Says everything, and then what is no PDU: the server must end the conversation, with whole PDUs.
    fn converse(&self, bytes: &[u8]) -> Vec<u8> {
        // Ends what waits for the rest of a PDU, by filling it, and everything else, because no PDU begins like this. Who
        // would close the connection in place of it leaves a port in TIME-WAIT, and soon there is none left.
        const FILLER: [u8; 16 << 10] = [0; 16 << 10];
        let conversation = async {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_zero_linger().expect("a new socket");
            let mut stream = socket.connect(self.address).await.expect("a server");
            // It may hang up before it has heard everything.
            let _ = stream.write_all(&[bytes, &FILLER].concat()).await;
            let mut answer = Vec::new();
            loop {
                match timeout(Duration::from_millis(3), stream.read_buf(&mut answer)).await {
                    Ok(Ok(0)) => return Some(answer),
                    Ok(Ok(_)) => {}
                    // A connection that is reset may have lost the end of what was said.
                    Ok(Err(_)) => return None,
                    Err(_) => {
                        let _ = stream.write_all(&FILLER).await;
                    }
                }
            }
        };
        let patience = Duration::from_secs(8);
        let heard = self.runtime.block_on(async { timeout(patience, conversation).await });
        let kinds = heard.expect("the server ends the conversation").map(|answer| check_answer(&answer));
        let settled = async {
            while self.counting.opened.load(Ordering::SeqCst) != self.counting.closed.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
        };
        self.runtime.block_on(async { timeout(patience, settled).await }).expect("the association is closed");
        kinds.unwrap_or_default()
    }
}

/// One answer to the request, then data and the end; every length right, and nothing longer than we said we take.
fn check_answer(mut answer: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some((&[kind, _, a, b, c, d], rest)) = answer.split_first_chunk::<6>() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        assert!(rest.len() >= length, "a PDU is cut short");
        let expected: &[u8] = if kinds.is_empty() { &[2, 3, 7] } else { &[4, 5, 6, 7] };
        assert!(expected.contains(&kind), "PDU type {kind}");
        assert!(kind != 4 || length <= 16384, "a P-DATA-TF of {length} bytes");
        kinds.push(kind);
        answer = &rest[length..];
    }
    assert!(answer.is_empty(), "a PDU header is cut short");
    kinds
}

fn converse(bytes: &[u8]) -> Vec<u8> {
    thread_local! {
        static PLAYGROUND: RefCell<Option<Playground>> = const { RefCell::new(None) };
    }
    PLAYGROUND.with_borrow_mut(|playground| playground.get_or_insert_with(Playground::new).converse(bytes))
}
