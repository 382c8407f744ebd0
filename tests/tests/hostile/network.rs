//! What is said on the ports: wrong order, wrong numbers, too slow, too often, and too much.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use dicom_dictionary_std::uids;
use e2e::random::Random;

use super::{
    raw::{Line, association_request, command, command_element, pdu, value},
    watched::Watched,
};

const CT: &str = uids::CT_IMAGE_STORAGE;
const ABORT: u8 = 7;

fn store_command() -> Vec<u8> {
    let class = format!("{CT}\0");
    command(0x0001, true, &[(0x0002, class.as_bytes()), (0x0700, &[0, 0]), (0x1000, b"1.2.3\0")])
}

/// CVE-2022-2121, 2024-34509, 2026-44628: messages out of order, and commands that are none. Each ends the association
/// with an abort, and nothing else.
#[test]
fn a_conversation_out_of_order_is_aborted() -> Result<()> {
    let mut watched = Watched::receiving()?;
    let pdv = |length: u32, rest: &[u8]| pdu(4, &[&length.to_be_bytes()[..], rest].concat());
    let store = value(1, 3, &store_command());
    let then = |rest: &[u8]| [&store[..], rest].concat();
    let rows: &[(&str, Vec<u8>)] = &[
        ("a data set before any command", value(1, 2, b"data")),
        ("an unknown presentation context", value(99, 3, &command(0x0030, false, &[]))),
        ("an even presentation context", value(2, 3, &command(0x0030, false, &[]))),
        ("a release in the middle of a data set", then(&[value(1, 0, b"da"), pdu(5, &[0; 4])].concat())),
        ("a command in the middle of a data set", then(&store)),
        ("a data set on another context", then(&value(3, 2, b"data"))),
        ("a second association request", association_request(b"MODALITY", &[CT])),
        ("an acceptance", pdu(2, &[0; 68])),
        ("a release response that nobody asked for", pdu(6, &[0; 4])),
        ("a command that changes its context", [value(1, 1, &store_command()[..20]), value(3, 3, &[])].concat()),
        ("a command without Command Field", value(1, 3, &command_element(0x0110, &[1, 0]))),
        ("a command without Message ID", value(1, 3, &command_element(0x0100, &[0x30, 0]))),
        ("a Command Field of four bytes", value(1, 3, &command_element(0x0100, &[0x30, 0, 0, 0]))),
        ("a command element of 4 GB", value(1, 3, &[0, 0, 0, 1, 0xf0, 0xff, 0xff, 0xff, 1, 0])),
        ("a command element of another group", value(1, 3, &[8, 0, 5, 0, 0, 0, 0, 0])),
        ("an empty command", value(1, 3, &[])),
        ("a command without end", (0..40).flat_map(|_| value(1, 1, &[0; 4_000])).collect()),
        ("a response to nothing", value(1, 3, &command(0x8001, false, &[(0x0900, &[0, 0])]))),
        ("a value of no bytes", pdv(0, &[])),
        ("a value of one byte", pdv(1, &[1])),
        ("a value longer than its PDU", pdv(0xffff_ffff, &[1, 3])),
        ("a PDU of 4 GB", [&[4, 0, 0xff, 0xff, 0xff, 0xff][..], &[0; 64]].concat()),
        ("a PDU longer than agreed", pdu(4, &[0; 200_000])),
        ("an unknown PDU", pdu(9, &[0; 4])),
    ];
    for (what, said) in rows {
        let (mut line, _) = Line::associated(&watched.daemon.address(), &[CT, CT])?;
        line.say(said);
        let heard = line.hear_all().with_context(|| (*what).to_owned())?;
        // Closing with bytes unread resets the connection, and the abort may be lost with it.
        assert!(heard == [ABORT] || heard.is_empty(), "{what}: {heard:?}");
    }
    watched.check()
}

/// Command sets with three bytes changed, each on an association of its own: an answer or an end, and soon.
#[test]
fn changed_commands_end_in_an_answer_or_an_abort() -> Result<()> {
    let mut watched = Watched::receiving()?;
    let mut random = Random::seeded(20_261_122);
    let mut answered = 0;
    for _ in 0..400 {
        let mut bytes = store_command();
        for _ in 0..3 {
            let at = usize::try_from(random.below(bytes.len() as u64))?;
            bytes[at] = random.bits().to_le_bytes()[0];
        }
        let (mut line, _) = Line::associated(&watched.daemon.address(), &[CT])?;
        line.say(&[value(1, 3, &bytes), value(1, 2, b"data"), pdu(5, &[0; 4])].concat());
        let heard = line.hear_all()?;
        assert!(heard.iter().all(|kind| [4, 6, ABORT].contains(kind)), "{heard:?}");
        answered += usize::from(heard.contains(&4));
    }
    ensure!(answered > 50, "only {answered} commands were answered: nothing was tested");
    watched.check()
}

/// CVE-2026-52868: what is another's. There is no service by which to ask for it.
#[test]
fn nobody_can_ask_for_what_others_sent() -> Result<()> {
    let mut watched = Watched::receiving()?;
    let queries = [
        uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
        uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
        uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
        uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
        uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
        uids::MODALITY_PERFORMED_PROCEDURE_STEP,
        uids::INSTANCE_AVAILABILITY_NOTIFICATION,
    ];
    let proposed: Vec<&str> = queries.into_iter().chain([CT]).collect();
    let (mut line, accepted) = Line::associated(&watched.daemon.address(), &proposed)?;
    // Result of a presentation context: 0 accepted, 3 abstract syntax not supported (PS3.8 table 9-18).
    let last = u8::try_from(2 * queries.len() + 1)?;
    let results: Vec<(u8, u8)> = results(&accepted)?;
    let due: Vec<(u8, u8)> = (1..=last).step_by(2).map(|id| (id, if id == last { 0 } else { 3 })).collect();
    assert_eq!(results, due);
    // Asked for all the same, on the context that there is: C-FIND, C-MOVE, C-GET, N-GET, N-SET, N-CREATE, N-DELETE.
    for field in [0x0020_u16, 0x0021, 0x0010, 0x0110, 0x0120, 0x0140, 0x0150] {
        let class = queries[0].as_bytes();
        line.say(&value(last, 3, &command(field, true, &[(0x0002, class), (0x0600, b"OTHER ")])));
        line.say(&value(last, 2, b"\x08\0\x52\0\x06\0\0\0STUDY "));
        assert_eq!(line.status()?, 0x0211, "{field:04x}");
    }
    line.say(&value(last, 3, &command(0x0030, false, &[])));
    assert_eq!(line.status()?, 0, "the association is kept");
    watched.check()
}

/// The presentation contexts of an A-ASSOCIATE-AC: identifier and result.
fn results(accepted: &[u8]) -> Result<Vec<(u8, u8)>> {
    let mut items = accepted.get(68..).context("an A-ASSOCIATE-AC that is cut short")?;
    let mut results = Vec::new();
    while let Some((&[kind, _, high, low], rest)) = items.split_first_chunk::<4>() {
        let (content, rest) =
            rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]))).context("an item that is cut short")?;
        if kind == 0x21 {
            results.push((content[0], content[2]));
        }
        items = rest;
    }
    Ok(results)
}

/// CVE-2026-50254, 35505: what every connection leaves behind.
#[test]
fn twenty_thousand_connections_leave_nothing_behind() -> Result<()> {
    const CONNECTIONS: usize = 20_000;
    let mut watched = Watched::receiving()?;
    let address = watched.daemon.address();
    let request = association_request(b"MODALITY", &[uids::VERIFICATION]);
    let knocks: [Vec<u8>; 7] = [
        vec![],
        request[..40].to_vec(),
        [&request[..], &pdu(ABORT, &[0, 0, 0, 0])].concat(),
        [&request[..], &value(1, 1, b"half a command")].concat(),
        vec![0xff; 300],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0x16, 3, 1, 2, 0, 1, 0],
    ];
    let started = Instant::now();
    let mut held = VecDeque::new();
    let mut answered = 0;
    for (knock, _) in knocks.iter().cycle().zip(0..CONNECTIONS) {
        let mut stream = TcpStream::connect(&address)?;
        // It may be turned away before it has said anything.
        let _ = stream.write_all(knock);
        if knock.starts_with(&request) {
            // An answer, or the end: everybody before it has been let in by now, so that none is lost for want of room.
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            answered += usize::from(matches!(stream.read(&mut [0; 1]), Ok(1)));
        }
        held.push_back(stream);
        if held.len() > 40 {
            held.pop_front();
        }
    }
    let took = started.elapsed();
    eprintln!("{CONNECTIONS} connections in {took:?}, {answered} answered");
    ensure!(answered > CONNECTIONS / 5, "only {answered} were answered");
    ensure!(took < Duration::from_secs(30), "{took:?}");
    drop(held);
    watched.check()
}

/// A byte now and then, before the association: the whole request has to be there in time, and nobody else waits.
#[test]
fn a_slow_peer_is_not_waited_for() -> Result<()> {
    let mut watched = Watched::receiving()?;
    let request = association_request(b"MODALITY", &[uids::VERIFICATION]);
    let address = watched.daemon.address();
    thread::scope(|scope| -> Result<()> {
        let slow: Vec<_> = (0..6)
            .map(|index| {
                let (address, request) = (&address, &request);
                scope.spawn(move || dribble(address, &request[..request.len() - index]))
            })
            .collect();
        for _ in 0..10 {
            watched.daemon.check_alive()?;
            thread::sleep(Duration::from_millis(100));
        }
        for peer in slow {
            let lasted = peer.join().map_err(|_| anyhow::anyhow!("a slow peer panicked"))??;
            // The ARTIM timer is 15 s.
            ensure!((10..25).contains(&lasted.as_secs()), "a slow peer was listened to for {lasted:?}");
        }
        Ok(())
    })?;
    watched.check()
}

/// Says one byte after the other until the other side has had enough; how long it took.
fn dribble(address: &str, bytes: &[u8]) -> Result<Duration> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    let started = Instant::now();
    for byte in bytes.iter().cycle() {
        ensure!(started.elapsed() < Duration::from_secs(40), "still listened to after 40 s");
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        match stream.read(&mut [0; 64]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    Ok(started.elapsed())
}

/// CVE-2026-5440: the port for health over HTTP.
#[test]
fn the_admin_port_takes_nothing_in() -> Result<()> {
    let mut watched = Watched::receiving()?;
    let address = watched.daemon.admin_address();
    let long_header = format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(4 << 20));
    let headers = format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(50_000));
    let chunked = format!(
        "POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        "400\r\n".to_owned() + &"a".repeat(0x400) + "\r\n"
    );
    let requests: [(&str, &str, usize); 7] = [
        ("4 GB announced", "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 4294967296\r\n\r\n", 16 << 20),
        ("4 GB with a GET", "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 4294967296\r\n\r\n", 16 << 20),
        (
            "more than there are numbers",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
            64,
        ),
        ("a header of 4 MB", &long_header, 0),
        ("50 000 headers", &headers, 0),
        ("chunks", &chunked, 0),
        ("a path out of here", "GET /../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 0),
    ];
    for (what, head, body) in requests {
        let mut stream = TcpStream::connect(&address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.set_write_timeout(Some(Duration::from_secs(2)))?;
        // It may answer and hang up while we speak.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b'a'; body]));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let fits = status.is_empty() || status.starts_with('4') || (status == "200" && head.starts_with("GET /health"));
        assert!(fits, "{what}: {answer}");
        assert!(!answer.contains("root:"), "{what}");
    }
    let mut stream = TcpStream::connect(&address)?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("\"status\":\"ok\""), "{answer}");
    watched.check()
}

/// Who connects to the admin port and says nothing takes no file descriptor from the DICOM port.
#[test]
fn silence_on_the_admin_port_keeps_nobody_out() -> Result<()> {
    let mut watched = Watched::receiving()?;
    let files = watched.count("fd")?;
    let mut silent = Vec::new();
    for _ in 0..120 {
        let stream = TcpStream::connect(watched.daemon.admin_address())?;
        stream.set_read_timeout(Some(Duration::from_secs(25)))?;
        silent.push(stream);
    }
    watched.daemon.check_alive()?;
    thread::sleep(Duration::from_millis(200));
    let taken = watched.count("fd")?.saturating_sub(files);
    ensure!((20..=40).contains(&taken), "{taken} file descriptors are taken by who says nothing");
    // Each has its end, and then the next its turn.
    let first = silent.first_mut().context("a connection")?;
    ensure!(
        !matches!(first.read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock),
        "still open after 25 s"
    );
    drop(silent);
    watched.check()
}
