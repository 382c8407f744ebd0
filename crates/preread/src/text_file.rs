//! Text files that a person names.

use std::{
    fs::{self, File},
    io::{Error, ErrorKind, Read, Result},
    path::Path,
};

/// The longest text that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// Refuses what may have no end.
///
/// # Errors
/// When it is a pipe, a device or a folder, or as the system says.
pub(crate) fn require_regular(path: &Path) -> Result<()> {
    if fs::metadata(path)?.is_file() {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::InvalidInput, "it is no regular file; name a file"))
    }
}

/// The text of a regular file of at most 64 MiB.
///
/// # Errors
/// As the system says; when it is a pipe or a device, which may have no end; when it is longer, or no UTF-8.
pub(crate) fn read(path: &Path) -> Result<String> {
    require_regular(path)?;
    let mut text = String::new();
    File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(Error::new(ErrorKind::InvalidData, "it is longer than 64 MiB: it is no text that is meant here"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_and_a_folder_are_no_text() {
        for path in ["/dev/zero", "/"] {
            assert_eq!(read(Path::new(path)).unwrap_err().kind(), ErrorKind::InvalidInput, "{path}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "text").unwrap();
        assert_eq!(read(file.path()).unwrap(), "text");
    }
}
