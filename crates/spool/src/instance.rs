//! Receiving one instance: a file under `incoming/` that grows, and then is kept or vanishes.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dataset::{Header, part10::Meta};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use crate::{
    AssociationId, Error, Spool, StudyId, Timestamp,
    disk::{Disk, Home},
    hex,
};

/// What is known of an instance before its first byte.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The association that brings it, or nothing when it comes from a file.
    pub association: Option<AssociationId>,
    /// Who sends it: the peer's name in the configuration.
    pub source: String,
    /// How long the study must be quiet after it, for this source.
    pub quiet: Duration,
}

/// An instance that is coming in. Dropped without [`Receiving::commit`], it leaves nothing behind.
pub struct Receiving {
    spool: Spool,
    arrival: Arrival,
    file: BufWriter<File>,
    path: Incoming,
    whole: Sha256,
    data_set: Sha256,
    bytes: u64,
}

/// Removes the file when it is dropped before it was moved to where it stays.
struct Incoming {
    disk: Arc<Disk>,
    path: PathBuf,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.disk.remove(&self.path);
    }
}

/// What became of a received instance. Every one of these may be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// New: kept.
    New(StudyId),
    /// The same SOP Instance with the same data set is kept already (promise 4).
    Again(StudyId),
    /// The same SOP Instance UID with another data set: the first one stays, this one is quarantined and visible.
    Conflict(StudyId),
}

impl Spool {
    /// Begins to receive an instance. The file meta information is written now, the data set follows in pieces.
    ///
    /// Errors with [`Error::Full`] when the reserve is reached.
    pub fn begin(&self, arrival: Arrival, meta: &Meta, now: Timestamp) -> Result<Receiving, Error> {
        self.database.require_running()?;
        self.disk.require_space()?;
        let (file, path) = self.disk.create_incoming(now)?;
        let path = Incoming { disk: Arc::clone(&self.disk), path };
        let mut receiving = Receiving {
            spool: self.clone(),
            arrival,
            file: BufWriter::with_capacity(128 << 10, file),
            path,
            whole: Sha256::new(),
            data_set: Sha256::new(),
            bytes: 0,
        };
        receiving.append(&meta.to_bytes())?;
        Ok(receiving)
    }
}

impl Receiving {
    /// Appends a piece of the data set, as it came.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.data_set.update(piece);
        self.append(piece)
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.whole.update(piece);
        self.bytes += piece.len() as u64;
        self.file.write_all(piece).map_err(Error::io(&self.path.path))
    }

    /// The file so far, complete after this call, so that the gate can look at it.
    pub fn flushed(&mut self) -> Result<&Path, Error> {
        self.file.flush().map_err(Error::io(&self.path.path))?;
        Ok(&self.path.path)
    }

    /// Keeps the instance: file data, directory entry and row are on the disk when this answers.
    ///
    /// `header` is what the gate read of this very file; a study has the highest `priority` of its instances.
    pub async fn commit(mut self, header: Header, priority: i64, now: Timestamp) -> Result<Stored, Error> {
        self.flushed()?;
        let Self { spool, arrival, file, path, whole, data_set, bytes } = self;
        let row = Row {
            sha256: hex(whole.finalize()),
            data_set_sha256: hex(data_set.finalize()),
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            association: arrival.association,
            source: arrival.source,
            quiet_ms: i64::try_from(arrival.quiet.as_millis()).unwrap_or(i64::MAX),
            priority,
            header,
            path: String::new(),
        };
        if let Some(Stored::Again(study)) = spool.database.read(|connection| row.known(connection))? {
            spool.association_brought(row.association, study);
            return Ok(Stored::Again(study));
        }
        let disk = Arc::clone(&spool.disk);
        let kept =
            tokio::task::spawn_blocking(move || disk.keep(file.get_ref(), &path.path, Home::Instances, now)).await;
        let (relative, folders) = spool.database.watching(kept.map_err(|_| Error::Stopped)?)?;
        let row = Row { path: relative, ..row };
        let association = row.association;
        let relative = row.path.clone();
        let stored = spool.database.write(folders, move |connection| row.insert(connection, now)).await?;
        if let Stored::Again(_) = stored {
            // Two associations brought the same instance at the same time; the other one's file is the one that counts.
            spool.disk.remove(&spool.absolute(&relative));
        }
        let (Stored::New(study) | Stored::Again(study) | Stored::Conflict(study)) = stored;
        spool.association_brought(association, study);
        Ok(stored)
    }
}

struct Row {
    header: Header,
    path: String,
    sha256: String,
    data_set_sha256: String,
    bytes: i64,
    association: Option<AssociationId>,
    source: String,
    quiet_ms: i64,
    priority: i64,
}

impl Row {
    /// What the spool has under this SOP Instance UID: the same data set, or another one.
    fn known(&self, connection: &Connection) -> rusqlite::Result<Option<Stored>> {
        let uid = self.header.sop_instance_uid.as_str();
        let kept = connection
            .query_row("SELECT study_id, data_set_sha256 FROM instance WHERE sop_instance_uid = ?1", [uid], |row| {
                Ok((row.get::<_, StudyId>(0)?, row.get::<_, String>(1)?))
            })
            .optional()?;
        let Some((study, data_set_sha256)) = kept else { return Ok(None) };
        if data_set_sha256 == self.data_set_sha256 {
            return Ok(Some(Stored::Again(study)));
        }
        let quarantined: bool = connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM conflict JOIN instance ON instance.id = instance_id
             WHERE sop_instance_uid = ?1 AND conflict.data_set_sha256 = ?2)",
            params![uid, self.data_set_sha256],
            |row| row.get(0),
        )?;
        Ok(Some(if quarantined { Stored::Again(study) } else { Stored::Conflict(study) }))
    }

    fn insert(&self, connection: &Connection, now: Timestamp) -> Result<Stored, Error> {
        match self.known(connection)? {
            Some(Stored::Conflict(study)) => {
                connection.execute(
                    "INSERT INTO conflict (instance_id, path, sha256, data_set_sha256, source, received_at)
                     SELECT id, ?2, ?3, ?4, ?5, ?6 FROM instance WHERE sop_instance_uid = ?1",
                    params![
                        self.header.sop_instance_uid.as_str(),
                        self.path,
                        self.sha256,
                        self.data_set_sha256,
                        self.source,
                        now
                    ],
                )?;
                Ok(Stored::Conflict(study))
            }
            Some(known) => Ok(known),
            None => {
                let study = self.touch_study(connection, now)?;
                self.insert_instance(connection, study, now)?;
                Ok(Stored::New(study))
            }
        }
    }

    /// Our own objects that a PACS routes back change nothing of their study (promise 6).
    fn own(&self) -> bool {
        self.header.is_our_own()
    }

    fn touch_study(&self, connection: &Connection, now: Timestamp) -> Result<StudyId, Error> {
        let uid = self.header.study_instance_uid.as_str();
        let due_at = now.saturating_add(self.quiet_ms);
        let sql = if self.own() {
            "INSERT INTO study (study_instance_uid, state, reason, quiet_ms, due_at, received_at, last_received_at, priority)
             VALUES (?1, 'skipped', 'it holds nothing but preread''s own objects', ?2, ?3, ?4, ?4, ?5)
             ON CONFLICT (study_instance_uid) DO UPDATE SET state = state RETURNING id"
        } else {
            "INSERT INTO study (study_instance_uid, state, generation, quiet_ms, due_at, received_at, last_received_at,
             priority) VALUES (?1, 'received', 1, ?2, ?3, ?4, ?4, ?5)
             ON CONFLICT (study_instance_uid) DO UPDATE SET state = 'received', reason = NULL,
             generation = generation + 1, quiet_ms = ?2, due_at = ?3, last_received_at = ?4,
             priority = max(priority, ?5) RETURNING id"
        };
        Ok(connection.query_row(sql, params![uid, self.quiet_ms, due_at, now, self.priority], |row| row.get(0))?)
    }

    fn insert_instance(&self, connection: &Connection, study: StudyId, now: Timestamp) -> Result<(), Error> {
        connection.execute(
            "INSERT INTO instance (study_id, series_instance_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid,
             path, sha256, data_set_sha256, bytes, source, received_at, own)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                study,
                self.header.series_instance_uid.as_str(),
                self.header.sop_instance_uid.as_str(),
                self.header.sop_class_uid.as_str(),
                self.header.transfer_syntax.uid(),
                self.path,
                self.sha256,
                self.data_set_sha256,
                self.bytes,
                self.source,
                now,
                self.own(),
            ],
        )?;
        Ok(())
    }
}
