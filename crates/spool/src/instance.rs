//! Receiving one instance: bytes that are collected, and then are kept or vanish.

use std::{io, sync::Arc, time::Duration};

use dataset::{Digester, Header, Limits, part10::Meta};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::{
    AssociationId, Durability, Error, Spool, StudyId, Timestamp,
    buffer::Buffer,
    decision::{self, Decision},
    disk::{self, DiskFile},
    files::{self, Home},
    filing::Filing,
    journal::RECORD_ROOM,
    recover::loss,
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
    filing: Arc<Filing>,
    arrival: Arrival,
    /// What was not written to the file yet, after room for the record; the whole instance while there is no file.
    buffer: Buffer,
    file: Option<Arc<dyn DiskFile>>,
    /// Where its file is, or will be: relative to the spool.
    path: String,
    /// Bytes in the file.
    written: u64,
    data_set_at: u64,
    digester: Digester,
    /// Bytes of the quota that it has.
    claimed: u64,
    /// Whether a row or a record of the journal speaks of it by now.
    is_kept: bool,
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.is_kept {
            if self.file.is_some() {
                self.spool.files.remove(&self.spool.absolute(&self.path));
            }
            self.spool.files.budget.give_back(self.claimed);
            if self.file.is_none() {
                self.spool.files.budget.file_made();
            }
        }
        self.spool.buffers.give_back(std::mem::replace(&mut self.buffer, Buffer::new(0)));
    }
}

/// What became of a received instance. Every one of these may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// New: kept.
    New(StudyId),
    /// The same SOP Instance with the same data set is kept already (promise 4).
    Again(StudyId),
    /// A SOP Instance UID that is taken, by another data set of this study or by one of another study: kept in the study
    /// that it names, and visible there until it is decided what counts (see [`Spool::accept`]).
    Conflict(StudyId),
}

impl Spool {
    /// Begins to receive an instance. The data set follows in pieces.
    ///
    /// Errors with [`Error::Full`], [`Error::NoFiles`] or [`Error::Quota`] when there is no room, and with [`Error::InUse`] beside a daemon.
    pub fn begin(&self, arrival: Arrival, meta: &Meta, now: Timestamp) -> Result<Receiving, Error> {
        let filing = self.filing.clone().ok_or_else(|| Error::InUse(self.absolute("")))?;
        self.database.require_running()?;
        let path = self.files.name(Home::Instances, now)?;
        self.files.claim_file()?;
        let mut buffer = self.buffers.take();
        buffer.set_len(RECORD_ROOM);
        let meta = meta.to_bytes();
        buffer.fill(&meta);
        Ok(Receiving {
            spool: self.clone(),
            filing,
            arrival,
            buffer,
            file: None,
            path,
            written: 0,
            data_set_at: meta.len() as u64,
            digester: Digester::default(),
            claimed: 0,
            is_kept: false,
        })
    }
}

impl Receiving {
    /// Whether a piece of so many bytes makes [`Receiving::write`] wait for the disk.
    pub fn must_wait_for(&self, bytes: usize) -> bool {
        bytes > self.buffer.room()
    }

    /// Appends a piece of the data set, as it came. Blocks on the disk when there are many bytes by now.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.digester.update(piece);
        let mut rest = self.buffer.fill(piece);
        while !rest.is_empty() {
            self.write_collected()?;
            rest = self.buffer.fill(rest);
        }
        Ok(())
    }

    fn collected(&self) -> &[u8] {
        &self.buffer.bytes()[RECORD_ROOM..]
    }

    fn claim(&mut self) -> Result<u64, Error> {
        let bytes = self.collected().len() as u64;
        self.spool.files.claim(bytes)?;
        self.claimed += bytes;
        Ok(bytes)
    }

    /// Hands what is collected to the file.
    fn write_collected(&mut self) -> Result<(), Error> {
        let bytes = self.claim()?;
        let spool = &self.spool;
        let file = match &self.file {
            Some(file) => file,
            None => {
                let file = self.file.insert(spool.files.create(&self.path)?);
                spool.files.budget.file_made();
                file
            }
        };
        let collected = &self.buffer.bytes()[RECORD_ROOM..];
        let written = files::write(&**file, collected, self.written);
        written.map_err(|error| spool.files.failed(&spool.absolute(&self.path), error))?;
        self.written += bytes;
        self.buffer.set_len(RECORD_ROOM);
        Ok(())
    }

    /// Reads the header of what has come, which must be all, through the gate. Blocks on the disk when that was much.
    pub fn header(&mut self, limits: &Limits) -> Result<Result<Header, dataset::Error>, Error> {
        if self.file.is_none() {
            return Ok(Header::read(&mut io::Cursor::new(self.collected()), limits));
        }
        self.write_collected()?;
        let Some(file) = &self.file else { return Err(Error::Stopped) };
        let mut stream = disk::Stream::new(&**file).map_err(Error::io(self.spool.absolute(&self.path)))?;
        Ok(Header::read(&mut stream, limits))
    }

    /// Keeps the instance. With [`Durability::Instance`] it survives a power cut when this answers.
    ///
    /// `header` is what the gate read of this very instance; a study has the highest `priority` of its instances. Answers
    /// what became of it; nothing yet where that is found out when its association is flushed
    /// ([`Spool::flush_association`]), or soon. Whatever it will be, it may be acknowledged.
    pub async fn commit(self, header: Header, priority: i64, now: Timestamp) -> Result<Option<Stored>, Error> {
        let row = self.row(&header, priority, now);
        let (spool, association) = (self.spool.clone(), self.arrival.association);
        let known = spool.database.read(|connection| row.known(connection))?;
        if let Some(Stored::Again(study)) = known {
            spool.associations.brought(association, study, None);
            return Ok(known);
        }
        let filing = Arc::clone(&self.filing);
        let appended = tokio::task::spawn_blocking(move || {
            let number = self.append(&row, &filing)?;
            if association.is_none() {
                filing.file_up_to(number)?;
            }
            Ok((number, row))
        });
        let (number, row) = spool.database.watching(appended.await.map_err(|_| Error::Stopped)?)?;
        if let Some(association) = association {
            spool.associations.appended(association, number);
            return Ok(None);
        }
        Ok(match (known, spool.database.read(|connection| row.known(connection))?) {
            (None, Some(Stored::Again(study))) => Some(Stored::New(study)),
            (known, now) => known.or(now),
        })
    }

    fn row(&self, header: &Header, priority: i64, now: Timestamp) -> Row {
        Row {
            own: header.is_our_own(),
            sop_instance_uid: header.sop_instance_uid.to_string(),
            sop_class_uid: header.sop_class_uid.to_string(),
            study_instance_uid: header.study_instance_uid.to_string(),
            series_instance_uid: header.series_instance_uid.to_string(),
            transfer_syntax_uid: header.transfer_syntax.uid().to_owned(),
            path: self.path.clone(),
            digest: self.digester.digest().to_string(),
            data_set_at: self.data_set_at,
            bytes: self.written + self.collected().len() as u64,
            source: self.arrival.source.clone(),
            quiet_ms: i64::try_from(self.arrival.quiet.as_millis()).unwrap_or(i64::MAX),
            priority,
            received_at: now,
        }
    }

    /// Appends its record to the journal, with its bytes, or once its file is flushed. Blocks. Answers the record's number.
    ///
    /// Done to the end also when nobody waits for it any more.
    fn append(mut self, row: &Row, filing: &Filing) -> Result<u64, Error> {
        let record = serde_json::to_vec(row).map_err(|error| Error::Record(error.to_string()))?;
        let is_whole = self.file.is_none() && filing.journal.should_take(self.collected().len());
        let unfiled = if is_whole { self.claim()? } else { 0 };
        if !is_whole {
            if !self.collected().is_empty() {
                self.write_collected()?;
            }
            if let Some(file) = &self.file {
                self.spool.files.flush(&**file, &self.path)?;
            }
            self.buffer.set_len(RECORD_ROOM);
        }
        self.spool.files.budget.unfiled(unfiled);
        let association = self.arrival.association;
        let appended = filing.journal.append(&record, &mut self.buffer, association);
        let appended = appended.inspect_err(|_| self.spool.files.budget.filed(unfiled))?;
        // From here on: a record that could not be flushed may be on the disk all the same.
        self.is_kept = true;
        if self.spool.durability == Durability::Instance {
            filing.journal.flush_with_receipt(&appended, &record)?;
        }
        Ok(appended.number)
    }
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
    pub(crate) received_at: Timestamp,
    /// Our own objects that a PACS routes back change nothing of their study (promise 6).
    own: bool,
}

impl Row {
    /// What its study has under this SOP Instance UID: the same data set, or another one.
    pub(crate) fn known(&self, connection: &Connection) -> rusqlite::Result<Option<Stored>> {
        let kept = connection
            .prepare_cached(
                "SELECT study_id, instance.id, digest FROM instance JOIN study ON study.id = study_id
                 WHERE sop_instance_uid = ?1 AND study_instance_uid = ?2",
            )?
            .query_row(params![self.sop_instance_uid, self.study_instance_uid], |row| {
                Ok((row.get::<_, StudyId>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
            })
            .optional()?;
        let Some((study, instance, digest)) = kept else { return Ok(None) };
        if digest == self.digest {
            return Ok(Some(Stored::Again(study)));
        }
        // What counted once, or was decided of when another one counted, is a change of what counts now. The journal's own
        // record of it, given back at a start, is not.
        let quarantined = connection
            .prepare_cached(
                "SELECT 1 FROM conflict WHERE instance_id = ?1 AND digest = ?2 AND (decision IS NOT ?3 OR path = ?4)",
            )?
            .exists(params![instance, self.digest, Decision::Superseded, self.path])?;
        Ok(Some(if quarantined { Stored::Again(study) } else { Stored::Conflict(study) }))
    }

    pub(crate) fn study_instance_uid(&self) -> &str {
        &self.study_instance_uid
    }

    /// Holds the study of an instance that was acknowledged and is gone, and makes it known if it is not: until the
    /// instance comes again, or a person retries the study.
    pub(crate) fn hold_study_that_lost_it(&self, connection: &Connection) -> Result<(), Error> {
        if self.own {
            return Ok(());
        }
        const REASON: &str = "acknowledged instances of this study are gone from the disk (`preread doctor` names them): \
                              have them sent again, or read the study without them by `preread queue retry`";
        connection.execute(
            "INSERT INTO study (study_instance_uid, state, reason, quiet_ms, due_at, received_at, last_received_at, priority)
             VALUES (?1, 'held', ?2, ?3, ?4, ?4, ?4, ?5)
             ON CONFLICT (study_instance_uid) DO UPDATE SET state = 'held', reason = ?2",
            params![self.study_instance_uid, REASON, self.quiet_ms, self.received_at, self.priority],
        )?;
        Ok(())
    }

    pub(crate) fn insert(&self, connection: &Connection) -> Result<Stored, Error> {
        match self.known(connection)? {
            Some(Stored::Conflict(study)) => {
                self.insert_conflict(connection, study)?;
                Ok(Stored::Conflict(study))
            }
            Some(known) => Ok(known),
            None => {
                let own = self.own || decision::is_of_our_making(connection, &self.sop_instance_uid)?;
                loss::came_again(connection, &self.sop_instance_uid, self.received_at)?;
                let taken = !own && decision::is_taken(connection, &self.sop_instance_uid)?;
                let study = self.touch_study(connection, own)?;
                self.insert_instance(connection, study, own, taken.then_some(Decision::Open))?;
                Ok(if taken { Stored::Conflict(study) } else { Stored::New(study) })
            }
        }
    }

    fn insert_conflict(&self, connection: &Connection, study: StudyId) -> Result<(), Error> {
        connection.execute(
            "INSERT INTO conflict (instance_id, series_instance_uid, sop_class_uid, transfer_syntax_uid, path, digest,
             data_set_at, bytes, source, received_at)
             SELECT id, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 FROM instance WHERE sop_instance_uid = ?1 AND study_id = ?2",
            params![
                self.sop_instance_uid,
                study,
                self.series_instance_uid,
                self.sop_class_uid,
                self.transfer_syntax_uid,
                self.path,
                self.digest,
                stored_number(self.data_set_at),
                stored_number(self.bytes),
                self.source,
                self.received_at
            ],
        )?;
        Ok(())
    }

    fn touch_study(&self, connection: &Connection, own: bool) -> Result<StudyId, Error> {
        let due_at = self.received_at.saturating_add(self.quiet_ms);
        let sql = if own {
            "INSERT INTO study (study_instance_uid, state, reason, quiet_ms, due_at, received_at, last_received_at, priority)
             VALUES (?1, 'skipped', 'it holds nothing but preread''s own objects', ?2, ?3, ?4, ?4, ?5)
             ON CONFLICT (study_instance_uid) DO UPDATE SET state = state RETURNING id"
                .to_owned()
        } else {
            format!(
                "INSERT INTO study (study_instance_uid, state, generation, quiet_ms, due_at, received_at, last_received_at,
                 priority) VALUES (?1, 'received', 1, ?2, ?3, ?4, ?4, ?5)
                 ON CONFLICT (study_instance_uid) DO UPDATE SET state = iif(stopped OR {lost}, state, 'received'),
                 reason = iif(stopped OR {lost}, reason, NULL), generation = generation + 1, quiet_ms = ?2, due_at = ?3,
                 last_received_at = ?4, priority = max(priority, ?5) RETURNING id",
                lost = loss::OF_STUDY
            )
        };
        let values = params![self.study_instance_uid, self.quiet_ms, due_at, self.received_at, self.priority];
        Ok(connection.prepare_cached(&sql)?.query_row(values, |row| row.get(0))?)
    }

    fn insert_instance(
        &self,
        connection: &Connection,
        study: StudyId,
        own: bool,
        decision: Option<Decision>,
    ) -> Result<(), Error> {
        connection
            .prepare_cached(
                "INSERT INTO instance (study_id, series_instance_uid, sop_instance_uid, sop_class_uid,
                 transfer_syntax_uid, path, digest, data_set_at, bytes, source, received_at, own, decision)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
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
                own,
                decision,
            ])?;
        Ok(())
    }
}

/// SQLite's integers are signed.
fn stored_number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
