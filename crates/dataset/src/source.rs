use std::io::{self, BufRead, BufReader, Read, Seek};

use flate2::bufread::{DeflateDecoder, ZlibDecoder};

/// What the walk reads from: the two differ in how they get past a value that nobody keeps.
pub(crate) trait Source: Read {
    /// Moves on by `bytes`, or by what is left where that is less; answers by how many.
    fn pass(&mut self, bytes: u64) -> io::Result<u64>;
}

/// Reads through everything.
pub(crate) struct Streamed<R>(pub(crate) BufReader<R>);

/// To be walked with a known length only: a file lets itself be sought beyond its end.
pub(crate) struct Seekable<R>(pub(crate) BufReader<R>);

impl<R: Read> Read for Streamed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Source for Streamed<R> {
    fn pass(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut (&mut self.0).take(bytes), &mut io::sink())
    }
}

impl<R: Read> Read for Seekable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read + Seek> Source for Seekable<R> {
    fn pass(&mut self, bytes: u64) -> io::Result<u64> {
        self.0.seek_relative(bytes.cast_signed())?;
        Ok(bytes)
    }
}

/// A deflated data set as it was before: as the standard says (PS3.5 A.5; RFC 1951), or with a header around it (RFC
/// 1950), as some senders write it. What follows its end is not read: the byte that makes the length even, or more.
pub(crate) fn inflated<'a>(reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::new(reader);
    let zlib = match reader.fill_buf()? {
        // The same first byte opens a stored block in RFC 1951, and then its length is there twice.
        [0x78, a, b, c, d, ..] => (0x7800 + u16::from(*a)).is_multiple_of(31) && (*a != !*c || *b != !*d),
        _ => false,
    };
    Ok(if zlib { Box::new(ZlibDecoder::new(reader)) } else { Box::new(DeflateDecoder::new(reader)) })
}
