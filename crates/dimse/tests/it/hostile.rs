//! What knocks on an open port besides DICOM, and more of it than there is room for.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use dimse::{Error, echo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Memory, Running, config, peer};

/// Collects log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

/// Sends bytes and reads until the server closes the connection.
async fn knock(running: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is closed with bytes unread is reset.
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("closed within 10 s");
    answer
}

/// An A-ASSOCIATE-RQ for verification.
fn request() -> Vec<u8> {
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
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
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
    echo(&running.destination()).await.unwrap();
    let said = lines.take();
    assert!(said.len() == 1 && said[0].contains("association released"), "{said:?}");
    assert!(said[0].contains("association{id=1 peer=\"loopback\"}"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_knocks_leave_nothing_behind() {
    let running = Running::usual().await;
    let resident = || {
        let pages: usize =
            std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    };
    for _ in 0..50 {
        knock(&running, b"GET / HTTP/1.1\r\n\r\n").await;
    }
    let before = resident();
    for _ in 0..500 {
        knock(&running, b"GET / HTTP/1.1\r\n\r\n").await;
        knock(&running, &[1, 0, 0xff, 0xff, 0xff, 0xff]).await;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes");
    echo(&running.destination()).await.unwrap();
}

// One thread, as above.
#[tokio::test]
async fn requests_with_wrong_bytes_end_in_an_answer() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
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
