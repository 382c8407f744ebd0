use std::{
    fmt,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use crate::{Error, instance::meta_of, large::regular};

/// What tells a data set from every other: the BLAKE3 hash of its bytes as they came, without the file around them, so
/// that the same instance from two senders has one digest.
///
/// BLAKE3 and not SHA-256, because every received byte goes through it before the sender is answered: it takes a third
/// of the time, and nobody can make two data sets with one digest either.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// Takes a data set piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Digester(blake3::Hasher);

impl Digester {
    /// Takes the next bytes.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all that was taken.
    pub fn digest(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

impl Digest {
    /// The digest of a data set in memory.
    pub fn of(data_set: &[u8]) -> Self {
        Self(*blake3::hash(data_set).as_bytes())
    }

    /// The digest of the data set of a Part 10 file, which is never whole in memory.
    ///
    /// # Errors
    /// When it is no regular file, has no file meta information that can be read, or as the system says.
    pub fn of_file(path: &Path) -> Result<Self, Error> {
        let mut file = regular(path)?;
        let (_, data_set_at) = meta_of(&mut file)?;
        file.seek(SeekFrom::Start(data_set_at as u64))?;
        Ok(Self::of_reader(file)?.0)
    }

    /// The digest of what is left to read, and how many bytes that was.
    pub fn of_reader(mut reader: impl Read) -> std::io::Result<(Self, u64)> {
        let mut digester = Digester::default();
        let mut buffer = vec![0; 128 << 10];
        let mut total = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok((digester.digest(), total)),
                Ok(count) => {
                    digester.update(&buffer[..count]);
                    total += count as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Lower-case hexadecimal, as `b3sum` prints it.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_readers_give_the_digest_of_the_whole() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let mut digester = Digester::default();
        bytes.chunks(7_001).for_each(|piece| digester.update(piece));
        assert_eq!(digester.digest(), Digest::of(&bytes));
        assert_eq!(Digest::of_reader(bytes.as_slice()).unwrap(), (Digest::of(&bytes), 300_000));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/phantom-cxr/samples/02-nodule-small.dcm");
        let whole = std::fs::read(&file).unwrap();
        let (_, data_set_at) = crate::part10::Meta::parse(&whole).unwrap();
        assert_eq!(Digest::of_file(&file).unwrap(), Digest::of(&whole[data_set_at..]));
        // The test vector of the BLAKE3 paper for no input.
        assert!(Digest::of(b"").to_string().starts_with("af1349b9f5f9a1a6a0404dea36dcc949"));
    }
}
