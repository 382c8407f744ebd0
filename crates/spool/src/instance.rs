//! Receiving one instance: a file under `incoming/` that grows, and then is kept or vanishes.

use std::{sync::Arc, time::Duration};

use dataset::{Digester, Header, Limits, part10::Meta};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::{
    AssociationId, Durability, Error, Spool, StudyId, Timestamp,
    disk::{self, DiskFile},
    files::{Files, Home},
    journal::{Journal, Ticket},
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
    file: Incoming,
    /// What was not written to the file yet or, once that is everything, the whole of a short instance.
    buffer: Vec<u8>,
    written: u64,
    /// Whether the last of it was written.
    finished: bool,
    data_set_at: u64,
    digester: Digester,
}

/// A file that nothing speaks of yet, with the room it takes. Dropped like that, both are given back.
struct Incoming {
    files: Arc<Files>,
    file: Arc<dyn DiskFile>,
    /// Relative to the spool.
    path: String,
    claimed: u64,
    /// Whether a row or a record of the journal speaks of it by now.
    kept: bool,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.kept {
            self.files.remove(&self.files.absolute(&self.path));
            self.files.give_back(self.claimed);
        }
    }
}

/// Bytes that are collected before they are written. An instance that fits, which most MR slices and compressed images do,
/// goes through the journal.
const BUFFER: usize = 256 << 10;

/// What became of a received instance. Every one of these may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// New: kept.
    New(StudyId),
    /// The same SOP Instance with the same data set is kept already (promise 4).
    Again(StudyId),
    /// The same SOP Instance UID with another data set: the first one stays, this one is quarantined and visible.
    Conflict(StudyId),
    /// Kept, or refused as one of the above, when its association is flushed ([`Spool::flush_association`]).
    Later,
}

impl Spool {
    /// Begins to receive an instance. The file meta information is written now, the data set follows in pieces.
    ///
    /// Errors with [`Error::Full`] or [`Error::Quota`] when there is no room.
    pub fn begin(&self, arrival: Arrival, meta: &Meta, now: Timestamp) -> Result<Receiving, Error> {
        self.database.require_running()?;
        self.files.claim(0)?;
        let (file, path) = self.files.create(Home::Instances, now)?;
        let mut buffer = Vec::with_capacity(BUFFER);
        buffer.extend_from_slice(&meta.to_bytes());
        Ok(Receiving {
            data_set_at: buffer.len() as u64,
            spool: self.clone(),
            arrival,
            file: Incoming { files: Arc::clone(&self.files), file, path, claimed: 0, kept: false },
            buffer,
            written: 0,
            finished: false,
            digester: Digester::default(),
        })
    }
}

impl Receiving {
    /// Appends a piece of the data set, as it came.
    pub fn write(&mut self, mut piece: &[u8]) -> Result<(), Error> {
        self.digester.update(piece);
        while !piece.is_empty() {
            if self.buffer.len() == BUFFER {
                self.flush()?;
                self.buffer.clear();
            }
            let (now, later) = piece.split_at(piece.len().min(BUFFER - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            piece = later;
        }
        Ok(())
    }

    /// Hands what is collected to the file.
    fn flush(&mut self) -> Result<(), Error> {
        let Self { spool, file, buffer, written, .. } = self;
        let length = buffer.len() as u64;
        spool.files.claim(length)?;
        file.claimed += length;
        let failed = |error| spool.files.failed(&spool.files.absolute(&file.path), error);
        file.file.write_all_at(buffer, *written).map_err(failed)?;
        *written += length;
        Ok(())
    }

    /// Hands the last of it to the file. A short instance stays in the buffer too.
    fn finish(&mut self) -> Result<(), Error> {
        if !self.finished {
            self.flush()?;
            self.finished = true;
        }
        Ok(())
    }

    /// Reads the header of what has come, which must be all, through the gate. Blocks on the disk.
    pub fn header(&mut self, limits: &Limits) -> Result<Result<Header, dataset::Error>, Error> {
        self.finish()?;
        let failed = |error| Error::io(self.file.files.absolute(&self.file.path))(error);
        let mut stream = disk::Stream::new(&*self.file.file).map_err(failed)?;
        Ok(Header::read(&mut stream, limits))
    }

    /// Keeps the instance. With [`Durability::Instance`] it survives a power cut when this answers.
    ///
    /// `header` is what the gate read of this very file; a study has the highest `priority` of its instances.
    pub async fn commit(mut self, header: Header, priority: i64, now: Timestamp) -> Result<Stored, Error> {
        self.finish()?;
        let Self { spool, arrival, file, buffer, written, data_set_at, digester, .. } = self;
        let row = Row {
            own: header.is_our_own(),
            sop_instance_uid: header.sop_instance_uid.to_string(),
            sop_class_uid: header.sop_class_uid.to_string(),
            study_instance_uid: header.study_instance_uid.to_string(),
            series_instance_uid: header.series_instance_uid.to_string(),
            transfer_syntax_uid: header.transfer_syntax.uid().to_owned(),
            path: file.path.clone(),
            digest: digester.digest().to_string(),
            data_set_at,
            bytes: written,
            source: arrival.source,
            quiet_ms: i64::try_from(arrival.quiet.as_millis()).unwrap_or(i64::MAX),
            priority,
            received_at: now,
        };
        let association = arrival.association;
        if let Some(Stored::Again(study)) = spool.database.read(|connection| row.known(connection))? {
            spool.association_brought(association, study);
            return Ok(Stored::Again(study));
        }
        let whole = (buffer.len() as u64 == written).then_some(buffer);
        let journaled = spool.journal(whole, &row).await?;
        match association {
            Some(association) if spool.durability == Durability::Association => {
                let index = spool.clone().index(file, journaled, row, Some(association));
                spool.keep_for_association(association, tokio::spawn(index)).await?;
                Ok(Stored::Later)
            }
            _ => spool.index(file, journaled, row, association).await,
        }
    }
}

impl Spool {
    /// Appends an instance's record to the journal, with its bytes if they are given; else its file is to be flushed.
    async fn journal(&self, bytes: Option<Vec<u8>>, row: &Row) -> Result<Option<Journaled>, Error> {
        let Some(journal) = &self.journal else { return Ok(None) };
        let record = serde_json::to_vec(row).map_err(|error| Error::Record(error.to_string()))?;
        let path = self.absolute(&row.path);
        let folder = path.parent().unwrap_or(&path);
        loop {
            let freed = journal.freed();
            if let Some(ticket) = journal.append(&row.path, folder, &record, bytes.as_deref())? {
                return Ok(Some(Journaled { journal: Arc::clone(journal), _ticket: ticket, whole: bytes.is_some() }));
            }
            freed.await;
        }
    }

    /// Makes an instance survive a power cut. A file that is not in the journal is flushed beside it and not before: a
    /// record whose file the power took was not acknowledged, and the next start leaves it out.
    async fn flush(&self, journaled: &Journaled, file: &Incoming) -> Result<(), Error> {
        if journaled.whole {
            return journaled.journal.flush().await;
        }
        let (open, path) = (Arc::clone(&file.file), self.absolute(&file.path));
        let own = tokio::task::spawn_blocking(move || open.sync().map_err(Error::flush(path)));
        let (journal, own) = tokio::join!(journaled.journal.flush(), own);
        journal.and(own.map_err(|_| Error::Stopped)?)
    }

    /// Makes the row of an instance whose file is where it stays.
    async fn index(
        self,
        mut file: Incoming,
        journaled: Option<Journaled>,
        row: Row,
        association: Option<AssociationId>,
    ) -> Result<Stored, Error> {
        let insert = move |connection: &Connection| row.insert(connection);
        // From here on: a record that could not be flushed may be on the disk all the same, and a row is made even when
        // nobody waits for it any more. A file that neither speaks of in the end is removed by the next start.
        file.kept = true;
        if let Some(journaled) = &journaled {
            self.database.watching(self.flush(journaled, &file).await)?;
        }
        let stored = self.database.step(insert).await?;
        // From here on the row stands in for the record.
        drop(journaled);
        let study = match stored {
            Stored::New(study) | Stored::Conflict(study) => Some(study),
            // Two associations brought the same instance at the same time; the other one's file is the one that counts.
            Stored::Again(study) => {
                file.kept = false;
                Some(study)
            }
            Stored::Later => None,
        };
        if let Some(study) = study {
            self.association_brought(association, study);
        }
        Ok(stored)
    }
}

/// An instance whose record is in the journal.
struct Journaled {
    journal: Arc<Journal>,
    /// Held until the record's row is in the database.
    _ticket: Ticket,
    /// Whether its bytes are in the journal too.
    whole: bool,
}

/// What the database, and the journal before it, know of an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) sop_instance_uid: String,
    sop_class_uid: String,
    study_instance_uid: String,
    series_instance_uid: String,
    transfer_syntax_uid: String,
    pub(crate) path: String,
    pub(crate) digest: String,
    pub(crate) data_set_at: u64,
    pub(crate) bytes: u64,
    source: String,
    quiet_ms: i64,
    priority: i64,
    received_at: Timestamp,
    /// Our own objects that a PACS routes back change nothing of their study (promise 6).
    own: bool,
}

impl Row {
    /// What the spool has under this SOP Instance UID: the same data set, or another one.
    pub(crate) fn known(&self, connection: &Connection) -> rusqlite::Result<Option<Stored>> {
        let uid = self.sop_instance_uid.as_str();
        let kept = connection
            .prepare_cached("SELECT study_id, digest FROM instance WHERE sop_instance_uid = ?1")?
            .query_row([uid], |row| Ok((row.get::<_, StudyId>(0)?, row.get::<_, String>(1)?)))
            .optional()?;
        let Some((study, digest)) = kept else { return Ok(None) };
        if digest == self.digest {
            return Ok(Some(Stored::Again(study)));
        }
        let quarantined: bool = connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM conflict JOIN instance ON instance.id = instance_id
             WHERE sop_instance_uid = ?1 AND conflict.digest = ?2)",
            params![uid, self.digest],
            |row| row.get(0),
        )?;
        Ok(Some(if quarantined { Stored::Again(study) } else { Stored::Conflict(study) }))
    }

    pub(crate) fn insert(&self, connection: &Connection) -> Result<Stored, Error> {
        match self.known(connection)? {
            Some(Stored::Conflict(study)) => {
                connection.execute(
                    "INSERT INTO conflict (instance_id, path, digest, data_set_at, bytes, source, received_at)
                     SELECT id, ?2, ?3, ?4, ?5, ?6, ?7 FROM instance WHERE sop_instance_uid = ?1",
                    params![
                        self.sop_instance_uid,
                        self.path,
                        self.digest,
                        stored_number(self.data_set_at),
                        stored_number(self.bytes),
                        self.source,
                        self.received_at
                    ],
                )?;
                Ok(Stored::Conflict(study))
            }
            Some(known) => Ok(known),
            None => {
                let study = self.touch_study(connection)?;
                self.insert_instance(connection, study)?;
                Ok(Stored::New(study))
            }
        }
    }

    fn touch_study(&self, connection: &Connection) -> Result<StudyId, Error> {
        let due_at = self.received_at.saturating_add(self.quiet_ms);
        let sql = if self.own {
            "INSERT INTO study (study_instance_uid, state, reason, quiet_ms, due_at, received_at, last_received_at, priority)
             VALUES (?1, 'skipped', 'it holds nothing but preread''s own objects', ?2, ?3, ?4, ?4, ?5)
             ON CONFLICT (study_instance_uid) DO UPDATE SET state = state RETURNING id"
        } else {
            "INSERT INTO study (study_instance_uid, state, generation, quiet_ms, due_at, received_at, last_received_at,
             priority) VALUES (?1, 'received', 1, ?2, ?3, ?4, ?4, ?5)
             ON CONFLICT (study_instance_uid) DO UPDATE SET state = iif(stopped, state, 'received'),
             reason = iif(stopped, reason, NULL), generation = generation + 1, quiet_ms = ?2, due_at = ?3, last_received_at = ?4,
             priority = max(priority, ?5) RETURNING id"
        };
        let values = params![self.study_instance_uid, self.quiet_ms, due_at, self.received_at, self.priority];
        Ok(connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?)
    }

    fn insert_instance(&self, connection: &Connection, study: StudyId) -> Result<(), Error> {
        connection
            .prepare_cached(
                "INSERT INTO instance (study_id, series_instance_uid, sop_instance_uid, sop_class_uid,
                 transfer_syntax_uid, path, digest, data_set_at, bytes, source, received_at, own)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                study,
                self.series_instance_uid,
                self.sop_instance_uid,
                self.sop_class_uid,
                self.transfer_syntax_uid,
                self.path,
                self.digest,
                stored_number(self.data_set_at),
                stored_number(self.bytes),
                self.source,
                self.received_at,
                self.own,
            ])?;
        Ok(())
    }
}

/// SQLite's integers are signed.
fn stored_number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
