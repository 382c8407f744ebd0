//! What no receiver can undercut: over loopback, into a new file, flushed, one byte back.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
};

use anyhow::{Context, Result};

/// Takes connections on `port` until it is ended; a thread for each.
///
/// # Errors
/// When it cannot listen.
pub(crate) fn serve(port: u16, dir: &Path) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).context("the floor cannot listen")?;
    thread::scope(|scope| {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            scope.spawn(move || {
                if let Err(error) = keep(stream, dir, number) {
                    eprintln!("floor: {error:#}");
                }
            });
        }
    });
    Ok(())
}

fn keep(mut stream: TcpStream, dir: &Path, connection: usize) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 128 * 1024];
    for number in 0_u64.. {
        let mut length = [0; 8];
        match stream.read_exact(&mut length) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            other => other?,
        }
        let mut left = usize::try_from(u64::from_le_bytes(length))?;
        let mut file = File::create_new(dir.join(format!("{connection}-{number}")))?;
        while left > 0 {
            let most = left.min(buffer.len());
            let read = stream.read(&mut buffer[..most])?;
            if read == 0 {
                return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into());
            }
            file.write_all(&buffer[..read])?;
            left -= read;
        }
        file.sync_data()?;
        stream.write_all(&[0])?;
    }
    Ok(())
}
