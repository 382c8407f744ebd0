//! Whether what is kept is still what came: every file is read again and compared with its digest.

use std::{io, path::PathBuf, sync::Arc};

use dataset::part10::Meta;
use rusqlite::{OptionalExtension, Row, params};

use crate::{
    Error, Spool,
    disk::{DiskFile, Stream},
    files::Files,
    recover::digest_of,
};

/// What a look at a kept instance found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// The file is on the disk and holds what came.
    Intact,
    /// There is no such instance.
    Absent,
    /// There is such an instance, of another SOP class.
    OtherClass,
    /// The file is gone, or holds something else than what came.
    Damaged,
}

/// An instance that was looked at.
#[derive(Debug, Clone)]
pub struct Scrubbed {
    /// Its file.
    pub path: PathBuf,
    /// Bytes of it, as they should be.
    pub bytes: u64,
    /// What was found: [`Verification::Intact`] or [`Verification::Damaged`].
    pub found: Verification,
}

/// What a file should be.
struct Expected {
    id: i64,
    sop_class_uid: String,
    sop_instance_uid: String,
    transfer_syntax_uid: String,
    path: String,
    digest: String,
    data_set_at: u64,
    bytes: u64,
}

const EXPECTED: &str =
    "SELECT id, sop_class_uid, sop_instance_uid, transfer_syntax_uid, path, digest, data_set_at, bytes FROM instance";

/// Rows that are looked at between two queries, so that the database is not held meanwhile.
const AT_A_TIME: i64 = 100;

impl Spool {
    /// Whether an instance is kept: its file is flushed, read from the disk again and compared with its digest. For
    /// storage commitment (PS3.4 annex J).
    pub async fn verify_instance(&self, sop_class_uid: &str, sop_instance_uid: &str) -> Result<Verification, Error> {
        self.file().await?;
        let expected = self.database.read(|connection| {
            connection
                .query_row(
                    // What a person set aside is kept, and is not what the UID means.
                    &format!("{EXPECTED} WHERE sop_instance_uid = ?1 ORDER BY decision IS 'aside', id LIMIT 1"),
                    [sop_instance_uid],
                    expected,
                )
                .optional()
        })?;
        let Some(expected) = expected else { return Ok(Verification::Absent) };
        if expected.sop_class_uid != sop_class_uid {
            return Ok(Verification::OtherClass);
        }
        let files = Arc::clone(&self.files);
        let verified = tokio::task::spawn_blocking(move || verify(&files, &expected)).await;
        self.database.watching(verified.map_err(|_| Error::Stopped)?)
    }

    /// Reads every kept instance again and says of each what was found. Blocks on the disk, for as long as that takes.
    pub fn scrub(&self, mut each: impl FnMut(&Scrubbed)) -> Result<(), Error> {
        let mut last = 0;
        loop {
            let some: Vec<Expected> = self.database.read(|connection| {
                connection
                    .prepare_cached(&format!("{EXPECTED} WHERE id > ?1 ORDER BY id LIMIT ?2"))?
                    .query_map(params![last, AT_A_TIME], expected)?
                    .collect()
            })?;
            let Some(newest) = some.last() else { return Ok(()) };
            last = newest.id;
            for expected in some {
                let found = verify(&self.files, &expected)?;
                each(&Scrubbed { path: self.absolute(&expected.path), bytes: expected.bytes, found });
            }
        }
    }
}

fn expected(row: &Row<'_>) -> rusqlite::Result<Expected> {
    let number = |index| row.get::<_, i64>(index).map(|number| u64::try_from(number).unwrap_or(0));
    Ok(Expected {
        id: row.get(0)?,
        sop_class_uid: row.get(1)?,
        sop_instance_uid: row.get(2)?,
        transfer_syntax_uid: row.get(3)?,
        path: row.get(4)?,
        digest: row.get(5)?,
        data_set_at: number(6)?,
        bytes: number(7)?,
    })
}

fn verify(files: &Files, expected: &Expected) -> Result<Verification, Error> {
    let path = files.absolute(&expected.path);
    let file = match files.disk.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Verification::Damaged),
        Err(error) => return Err(Error::io(&path)(error)),
    };
    // What was not flushed yet cannot be forgotten, and would be compared with itself.
    file.sync().map_err(Error::flush(&path))?;
    file.forget_cached();
    // A disk that cannot give the bytes back has damaged them.
    let holds_what_came = is_around(&*file, expected).unwrap_or(false)
        && digest_of(&*file, expected.data_set_at)
            .is_ok_and(|(digest, bytes)| bytes == expected.bytes && digest.to_string() == expected.digest);
    Ok(if holds_what_came { Verification::Intact } else { Verification::Damaged })
}

/// Whether the file meta information is that of the instance.
fn is_around(file: &dyn DiskFile, expected: &Expected) -> io::Result<bool> {
    let mut head = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(Stream::new(file)?, expected.data_set_at), &mut head)?;
    let Ok((meta, data_set_at)) = Meta::parse(&head) else { return Ok(false) };
    let is = |uid: Option<&dataset::Uid>, expected: &str| uid.is_none_or(|uid| uid.as_str() == expected);
    Ok(data_set_at as u64 == expected.data_set_at
        && meta.transfer_syntax_uid.as_str() == expected.transfer_syntax_uid
        && is(meta.sop_instance_uid.as_ref(), &expected.sop_instance_uid)
        && is(meta.sop_class_uid.as_ref(), &expected.sop_class_uid))
}
