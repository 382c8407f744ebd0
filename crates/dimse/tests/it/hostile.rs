//! What knocks on an open port besides DICOM, and more of it than there is room for.

use std::{
    collections::VecDeque,
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use dimse::{Error, Peer, echo, store};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    support::{Memory, Running, config, file, peer},
    tls::Authority,
};

/// Collects log lines.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// From now on every line of this thread's tasks, until the guard is dropped.
    pub(crate) fn collect() -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

/// Sends bytes and reads until the server closes the connection.
pub(crate) async fn knock(running: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is closed with bytes unread is reset.
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("closed within 10 s");
    answer
}

/// An A-ASSOCIATE-RQ for verification.
pub(crate) fn request() -> Vec<u8> {
    use dicom_ul::pdu::{AssociationRQ, PresentationContextProposed, UserVariableItem, write_pdu};
    let request = AssociationRQ {
        protocol_version: 1,
        calling_ae_title: "TEST".to_owned(),
        called_ae_title: "PREREAD".to_owned(),
        application_context_name: "1.2.840.10008.3.1.1.1".to_owned(),
        presentation_contexts: vec![PresentationContextProposed {
            id: 1,
            abstract_syntax: "1.2.840.10008.1.1".to_owned(),
            transfer_syntaxes: vec!["1.2.840.10008.1.2".to_owned()],
        }],
        user_variables: vec![UserVariableItem::MaxLength(16384)],
    };
    let mut bytes = Vec::new();
    write_pdu(&mut bytes, &request.into()).unwrap();
    bytes
}

// One thread, so that the subscriber of this thread sees every task.
#[tokio::test]
async fn what_is_no_dicom_costs_one_log_line_and_the_connection() {
    let (lines, _guard) = Lines::collect();
    let mut config = config();
    config.deadlines.association_request = Duration::from_millis(300);
    let running = Running::start(config, Memory::default()).await;
    let mut malformed = request();
    // The length of the first item, past the end of the PDU.
    malformed[77] = 0xff;
    malformed[76] = 0xff;
    let knocks: [(&[u8], &str); 9] = [
        (b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n", "text, perhaps HTTP"),
        (b"hello", "text, perhaps HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "a TLS handshake"),
        (&[0xff; 300], "unknown bytes"),
        (&[1, 0, 0xff, 0xff, 0xff, 0xff], "a PDU of 4294967295 bytes"),
        (&[4, 0, 0, 0, 0, 10, 0, 0, 0, 6, 1, 3, 0, 0, 0, 0], "before the association request"),
        (&[1, 0, 0, 0, 0, 100, 0, 1], "no association request came in time"),
        (&[], "no association request came in time"),
        (&malformed, "malformed"),
    ];
    tokio::task::yield_now().await;
    lines.take();
    for (bytes, expected) in knocks {
        knock(&running, bytes).await;
        let said = lines.take();
        assert_eq!(said.len(), 1, "{expected}: {said:?}");
        assert!(said[0].contains(expected), "{said:?}");
    }
    // A health check that connects and closes is no event.
    drop(TcpStream::connect(running.address).await.unwrap());
    drop(connect(running.address, 1).await);
    // Nor is a PACS that looks whether we are there.
    echo(&running.destination()).await.unwrap();
    assert_eq!(lines.take(), Vec::<String>::new());
    // After all that an instance is taken, and how many they were is said.
    let folder = tempfile::tempdir().unwrap();
    store(&running.destination(), &[file(folder.path(), "1.2.3.1", 1000)]).await.unwrap();
    let said = lines.take();
    assert!(said.len() == 1 && said[0].ends_with("association released: 1 instance"), "{said:?}");
    assert!(said[0].contains("association{id=2 peer=\"loopback\"}"), "{said:?}");
}

// One thread, as above.
#[tokio::test]
async fn who_knocks_without_end_has_a_few_lines_and_a_count() {
    let (lines, _guard) = Lines::collect();
    let mut config = config();
    config.peers = vec![peer("10.1.2.0/24", "*")];
    let running = Running::start(config, Memory::default()).await;
    tokio::task::yield_now().await;
    lines.take();
    for at in 0..100 {
        knock(&running, if at % 2 == 0 { b"GET / HTTP/1.1\r\n\r\n" } else { b"hello" }).await;
        assert_eq!(knock(&running, &request()).await, [3, 0, 0, 0, 0, 4, 0, 1, 1, 3]);
    }
    let said = lines.take();
    assert_eq!(said.len(), 16, "{said:?}");
    // What is left is said at the end of each minute, and when it stops.
    running.stop.cancel();
    for _ in 0..100 {
        if let Some(line) = lines.take().iter().find(|line| line.contains("more like that")) {
            assert!(line.ends_with("and 184 more like that in the last minute, about 127.0.0.1"), "{line}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody says how many there were");
}

/// A connection from one of the addresses of this machine, which is reset when it is dropped, so that it leaves no port
/// in TIME-WAIT.
pub(crate) async fn connect(to: SocketAddr, from: u8) -> TcpStream {
    connect_from(to, SocketAddr::from(([127, 0, 0, from], 0))).await.unwrap()
}

async fn connect_from(to: SocketAddr, from: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_zero_linger()?;
    socket.set_reuseaddr(true)?;
    socket.bind(from)?;
    socket.connect(to).await
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_connections_leave_nothing_behind() {
    const CONNECTIONS: usize = 20_000;
    let authority = Authority::new();
    let mut config = authority.both_listeners();
    config.deadlines.association_request = Duration::from_millis(500);
    let running = Running::start(config, Memory::default()).await;
    let ports = [running.address, running.tls_address.unwrap()];
    let resident = || {
        let pages: usize =
            std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    };
    let right = request();
    // Nothing at all; half a request; half a handshake; garbage; HTTP; a length that nobody has; a request and an abort.
    let abort = [&right[..], &[7, 0, 0, 0, 0, 4, 0, 0, 0, 0]].concat();
    let knocks: [&[u8]; 7] = [
        &[],
        &right[..50],
        &[0x16, 3, 1, 2, 0, 1, 0],
        &[0xff; 300],
        b"GET / HTTP/1.1\r\n\r\n",
        &[1, 0, 0xff, 0xff, 0xff, 0xff],
        &abort,
    ];
    // Not from ports that the system gives away: other tests ask it for one that is free.
    let mut from =
        (15_000..20_000).flat_map(|port| (2..=6).map(move |host| SocketAddr::from(([127, 0, 0, host], port))));
    // Those that stay open for a while.
    let mut held = VecDeque::new();
    let mut before = 0;
    for at in 0..CONNECTIONS {
        if at == CONNECTIONS / 10 {
            before = resident();
        }
        let mut stream = loop {
            match connect_from(ports[at % 2], from.next().unwrap()).await {
                Ok(stream) => break stream,
                // Somebody else has that port.
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
            }
        };
        // It may be turned away before it has said anything.
        let _ = stream.write_all(knocks[at % knocks.len()]).await;
        held.push_back(stream);
        if held.len() > 100 {
            held.pop_front();
        }
    }
    let grown = resident().saturating_sub(before);
    println!("{grown} bytes more after {CONNECTIONS} connections");
    assert!(grown < 4 << 20, "{grown} bytes");
    drop(held);
    // Those that wait still are gone, and the next peer is served.
    tokio::time::sleep(Duration::from_millis(600)).await;
    echo(&running.destination()).await.unwrap();
    running.all_closed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_and_says_nothing_keeps_nobody_out() {
    let mut config = config();
    config.max_associations = 1;
    let running = Running::start(config, Memory::default()).await;
    let mut silent = Vec::new();
    for _ in 0..15 {
        silent.push(connect(running.address, 1).await);
    }
    echo(&running.destination()).await.unwrap();
    silent.push(connect(running.address, 1).await);
    // One address may not wait more often, and others are not kept out by it: rejected, transient, temporary congestion.
    assert_eq!(knock(&running, &request()).await, [3, 0, 0, 0, 0, 4, 0, 2, 3, 1]);
    let mut other = connect(running.address, 2).await;
    other.write_all(&request()).await.unwrap();
    assert_eq!(other.read_u8().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_that_open_all_they_may_leave_a_third_one_place() {
    let mut config = config();
    config.max_associations = 8;
    config.peers =
        ["ONE", "TWO", "THREE"].map(|title| Peer { max_associations: 6, ..peer("127.0.0.0/8", title) }).into();
    let running = Running::start(config, Memory::default()).await;
    let calling = |title: &str| {
        let mut bytes = request();
        // PS3.8 table 9-11: the called title is at 10, the calling one at 26.
        bytes[26..42].copy_from_slice(format!("{title:16}").as_bytes());
        bytes
    };
    let mut held = Vec::new();
    let mut opened = async |title: &str, times: usize| {
        let mut count = 0;
        for _ in 0..times {
            let mut stream = connect(running.address, 1).await;
            stream.write_all(&calling(title)).await.unwrap();
            let mut answer = [0; 10];
            stream.read_exact(&mut answer).await.unwrap();
            if answer[0] == 2 {
                count += 1;
                held.push(stream);
            } else {
                // Local limit exceeded.
                assert_eq!(answer, [3, 0, 0, 0, 0, 4, 0, 2, 3, 2]);
            }
        }
        count
    };
    assert_eq!(opened("ONE", 10).await, 6);
    assert_eq!(opened("TWO", 10).await, 1);
    assert_eq!(opened("THREE", 10).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_has_a_bound_of_its_own() {
    let mut config = config();
    let bounded = Peer { max_associations: 1, ..peer("127.0.0.0/8", "TEST") };
    config.peers = vec![bounded, Peer { name: "another".to_owned(), ..peer("127.0.0.0/8", "*") }];
    let running = Running::start(config, Memory::default()).await;
    let mut held = connect(running.address, 1).await;
    held.write_all(&request()).await.unwrap();
    assert_eq!(held.read_u8().await.unwrap(), 2);
    // Local limit exceeded, and only for this peer.
    assert_eq!(knock(&running, &request()).await, [3, 0, 0, 0, 0, 4, 0, 2, 3, 2]);
    echo(&running.destination()).await.unwrap();
    drop(held);
    running.all_closed(2).await;
    let mut again = connect(running.address, 1).await;
    again.write_all(&request()).await.unwrap();
    assert_eq!(again.read_u8().await.unwrap(), 2);
}

// One thread, as above.
#[tokio::test]
async fn requests_with_wrong_bytes_end_in_an_answer() {
    let (lines, _guard) = Lines::collect();
    let running = Running::usual().await;
    let right = request();
    let mut random = 1_u32;
    for _ in 0..2000 {
        let mut bytes = right.clone();
        for _ in 0..3 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Behind the PDU's length, which the other tests change.
            let at = 6 + usize::try_from(random >> 16).unwrap() % (bytes.len() - 6);
            bytes[at] = random.to_le_bytes()[1];
        }
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = [0; 6];
        timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert!(matches!(answer[0], 2 | 3 | 7), "{answer:?}");
    }
    running.all_closed(1).await;
    assert_eq!(lines.take().iter().find(|line| line.contains("defect")), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_association_more_than_allowed_is_told_to_come_later() {
    let mut config = config();
    config.max_associations = 2;
    let running = Running::start(config, Memory::default()).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(&request()).await.unwrap();
        let mut accepted = [0; 6];
        stream.read_exact(&mut accepted).await.unwrap();
        assert_eq!(accepted[0], 2);
        held.push(stream);
    }
    // Rejected, transient, by the presentation service, local limit exceeded (PS3.8 table 9-21).
    assert_eq!(knock(&running, &request()).await, [3, 0, 0, 0, 0, 4, 0, 2, 3, 2]);
    assert!(matches!(echo(&running.destination()).await, Err(Error::Busy { .. })));
    drop(held);
    running.all_closed(2).await;
    echo(&running.destination()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_rejected_and_take_nobodys_place() {
    let mut config = config();
    config.peers = vec![peer("10.1.2.0/24", "*")];
    config.max_associations = 1;
    let running = Running::start(config, Memory::default()).await;
    // Rejected, permanent, by the service user, calling AE title not recognised.
    assert_eq!(knock(&running, &request()).await, [3, 0, 0, 0, 0, 4, 0, 1, 1, 3]);
    let mut waiting = Vec::new();
    for _ in 0..40 {
        waiting.push(TcpStream::connect(running.address).await.unwrap());
    }
    // Eight of a strange address may wait; the others are told at once: rejected, transient, by the presentation service,
    // temporary congestion.
    let mut turned_away = 0;
    for stream in &mut waiting {
        let mut answer = [0; 10];
        if let Ok(read) = timeout(Duration::from_millis(300), stream.read_exact(&mut answer)).await {
            read.unwrap();
            assert_eq!(answer, [3, 0, 0, 0, 0, 4, 0, 2, 3, 1]);
            turned_away += 1;
        }
    }
    assert_eq!(turned_away, 32);
    drop(waiting);
    for _ in 0..50 {
        if knock(&running, &request()).await == [3, 0, 0, 0, 0, 4, 0, 1, 1, 3] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the doorway stays full");
}
