//! As much of HTTP as Orthanc's REST interface needs: one request per connection, on the loopback interface.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail};

pub(crate) fn request(method: &str, address: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
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
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        let body = String::from_utf8_lossy(&answer[end + 4..]).into_owned();
        let body: Vec<&str> = body.split_whitespace().collect();
        bail!("{method} {path}: {}: {}", head.lines().next().unwrap_or_default(), body.join(" "));
    }
    answer.drain(..end + 4);
    Ok(answer)
}
