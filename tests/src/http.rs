//! As much of HTTP as Orthanc's REST interface and the daemon's health need: one request per connection, on the loopback interface.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail};

pub(crate) fn request(method: &str, address: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
    let (status, answer) = exchange(method, address, path, body)?;
    if status != 200 {
        let body = String::from_utf8_lossy(&answer).into_owned();
        let body: Vec<&str> = body.split_whitespace().collect();
        bail!("{method} {path}: {status}: {}", body.join(" "));
    }
    Ok(answer)
}

/// The status of an answer, and its body as text.
pub(crate) fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let (status, body) = exchange("GET", address, path, &[])?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn exchange(method: &str, address: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("the answer has no head")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).context("the answer has no status")?.parse()?;
    answer.drain(..end + 4);
    Ok((status, answer))
}
