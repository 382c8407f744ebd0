//! A peer that is there and hardly speaks: every step has an end, however often a byte comes.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    hostile::request,
    support::{Memory, Running, config},
};

/// A byte each 10 ms until the server has had enough; how long that took.
async fn dribble(mut stream: TcpStream, bytes: impl Iterator<Item = u8>) -> Duration {
    let started = Instant::now();
    for byte in bytes {
        let gone = stream.write_all(&[byte]).await.is_err();
        // Whatever it says is beside the point, its end is not.
        let mut heard = [0; 64];
        match timeout(Duration::from_millis(10), stream.read(&mut heard)).await {
            Ok(Ok(0) | Err(_)) => break,
            _ if gone => break,
            _ => {}
        }
        assert!(started.elapsed() < Duration::from_secs(10), "it is still listened to");
    }
    started.elapsed()
}

async fn associated(running: &Running) -> TcpStream {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(&request()).await.unwrap();
    let mut header = [0; 6];
    stream.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; usize::from(header[5]) + (usize::from(header[4]) << 8)];
    stream.read_exact(&mut body).await.unwrap();
    assert_eq!(header[0], 2);
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_now_and_then_keeps_no_step_open() {
    let mut config = config();
    config.deadlines.association_request = Duration::from_millis(600);
    config.deadlines.idle = Duration::from_millis(600);
    config.deadlines.message = Duration::from_millis(1_200);
    let running = Running::start(config, Memory::default()).await;
    let within = |what: &str, lasted: Duration, due: Duration| {
        println!("{what}: {lasted:?}");
        assert!(lasted >= due.mul_f32(0.9) && lasted < due * 3, "{what}: {lasted:?} in place of {due:?}");
    };

    let before = TcpStream::connect(running.address).await.unwrap();
    let lasted = dribble(before, request().into_iter().cycle()).await;
    within("the association request", lasted, Duration::from_millis(600));

    // One PDU of a command, a byte at a time: it is not there whole before the peer counts as idle.
    let command = [4, 0, 0, 0, 0x1f, 0x40, 0, 0, 0x1f, 0x3c, 1, 1];
    let lasted = dribble(associated(&running).await, command.into_iter().chain(std::iter::repeat(0))).await;
    within("a command", lasted, Duration::from_millis(600));

    // The command whole, then a data set in fragments of one byte: never idle, and too slow as a whole.
    let mut store = Vec::new();
    for (number, value) in [
        (0x0002_u16, &b"1.2.840.10008.5.1.4.1.1.2\0"[..]),
        (0x0100, &[1, 0]),
        (0x0110, &[1, 0]),
        (0x0800, &[0, 0]),
        (0x1000, b"1.2.3\0"),
    ] {
        store.extend([0, 0]);
        store.extend(number.to_le_bytes());
        store.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        store.extend(value);
    }
    let length = u8::try_from(store.len()).unwrap();
    let whole = [&[4, 0, 0, 0, 0, length + 6, 0, 0, 0, length + 2, 1, 3][..], &store].concat();
    let mut stream = associated(&running).await;
    stream.write_all(&whole).await.unwrap();
    let fragment = [4, 0, 0, 0, 0, 8, 0, 0, 0, 4, 1, 0, 7, 7];
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < Duration::from_secs(10), "it is still listened to");
        if stream.write_all(&fragment).await.is_err() {
            break;
        }
        match timeout(Duration::from_millis(50), stream.read(&mut [0; 64])).await {
            Ok(_) => break,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
    within("a data set", started.elapsed(), Duration::from_millis(1_200));
    running.all_closed(2).await;
    dimse::echo(&running.destination()).await.unwrap();
}
