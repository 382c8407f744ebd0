//! Reports and their deliveries: written once, delivered until every destination has them.

mod state;

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    Claim, Error, Spool, StudyId, StudyState, Timestamp,
    delivery::{settle_deliveries, supersede},
    files::{Files, Home},
    study::leave_reading,
};
pub use state::DeliveryState;

/// What a file of a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A TID 2000 text report, as a Part 10 file.
    TextSr,
    /// The same as Enhanced SR.
    EnhancedTextSr,
    /// A TID 1500 measurement report, as Comprehensive 3D SR.
    MeasurementsSr,
    /// The same as Comprehensive SR.
    ComprehensiveMeasurementsSr,
    /// Study-level results in TID 1501 groups.
    AiResultsSr,
    /// An Encapsulated PDF.
    Pdf,
    /// The attention over the image, as a Secondary Capture image.
    Heatmap,
    /// A Key Object Selection.
    KeyObjects,
    /// A Grayscale Softcopy Presentation State.
    PresentationState,
    /// A Key Object Selection that calls objects of ours back.
    RejectionNote,
    /// The attention over the image, as a PNG; kept here, not sent.
    HeatmapPng,
    /// The whole report as JSON; kept here, not sent.
    ReportJson,
}

impl ObjectKind {
    pub(crate) const ALL: [Self; 12] = [
        Self::TextSr,
        Self::EnhancedTextSr,
        Self::MeasurementsSr,
        Self::ComprehensiveMeasurementsSr,
        Self::AiResultsSr,
        Self::Pdf,
        Self::Heatmap,
        Self::KeyObjects,
        Self::PresentationState,
        Self::RejectionNote,
        Self::HeatmapPng,
        Self::ReportJson,
    ];

    /// The kind of a name in the database; an error for one of a later version.
    pub(crate) fn named(name: &str, column: usize) -> rusqlite::Result<Self> {
        let unknown = || {
            let what = format!("an object is a {name:?}, which this version does not know");
            rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, what.into())
        };
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(unknown)
    }

    /// Its name, as `preread queue` shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TextSr => "text-sr",
            Self::EnhancedTextSr => "enhanced-text-sr",
            Self::MeasurementsSr => "measurements-sr",
            Self::ComprehensiveMeasurementsSr => "comprehensive-measurements-sr",
            Self::AiResultsSr => "ai-results-sr",
            Self::Pdf => "pdf",
            Self::Heatmap => "heatmap",
            Self::KeyObjects => "key-objects",
            Self::PresentationState => "presentation-state",
            Self::RejectionNote => "rejection-note",
            Self::HeatmapPng => "heatmap-png",
            Self::ReportJson => "report-json",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::HeatmapPng => "png",
            Self::ReportJson => "json",
            _ => "dcm",
        }
    }
}

/// One file of a report, to be kept and, where it has destinations, delivered.
#[derive(Debug, Clone)]
pub struct ReportFile {
    /// What it is.
    pub kind: ObjectKind,
    /// SOP Instance, SOP Class and Series Instance UID, for a DICOM object.
    pub uids: Option<[String; 3]>,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Names of the destinations it goes to.
    pub destinations: Vec<String>,
}

/// Files of a report that are written and not yet counted on.
pub struct Prepared {
    spool_files: Arc<Files>,
    files: Vec<(ReportFile, String)>,
    patient: Option<String>,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for (_, path) in &self.files {
            self.spool_files.remove(&self.spool_files.absolute(path));
        }
    }
}

impl Prepared {
    /// The same, of a report that is filed under this patient: a word of the caller's that tells one patient from another
    /// and says nothing of either.
    pub fn filed_under(mut self, patient: String) -> Self {
        self.patient = Some(patient);
        self
    }

    /// Makes the files part of a report; if the transaction around it fails, the next start removes them.
    pub(crate) fn insert(mut self, connection: &Connection, report: i64, now: Timestamp) -> Result<(), Error> {
        for (file, path) in std::mem::take(&mut self.files) {
            let [sop_instance, sop_class, series] =
                file.uids.as_ref().map_or([None, None, None], |uids| uids.each_ref().map(Some));
            let object: i64 = connection.query_row(
                "INSERT INTO object (report_id, kind, sop_instance_uid, sop_class_uid, series_instance_uid, path)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id",
                params![report, file.kind.as_str(), sop_instance, sop_class, series, path],
                |row| row.get(0),
            )?;
            for destination in &file.destinations {
                connection.execute(
                    "INSERT INTO delivery (object_id, destination, state, next_at) VALUES (?1, ?2, ?4, ?3)",
                    params![object, destination, now, DeliveryState::Pending],
                )?;
            }
        }
        Ok(())
    }
}

/// What a new report of a study follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    /// The version that the next report has, from 1.
    pub next_version: i64,
    /// Digest of the inputs of the newest report; nothing once that was withdrawn, so that the study can be read again.
    pub inputs_digest: Option<String>,
    /// Of each kind of DICOM object the newest that there is, of whichever version, and that nobody withdrew or rejected.
    pub predecessors: Vec<Predecessor>,
}

/// An object that a new report replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// What it is.
    pub kind: ObjectKind,
    /// The version of the report that it belongs to, from 1.
    pub version: i64,
    /// SOP Class UID.
    pub sop_class_uid: String,
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// Series Instance UID.
    pub series_instance_uid: String,
    /// Whom it was filed under, as [`Prepared::filed_under`] was told.
    pub patient: Option<String>,
}

impl Spool {
    /// What a new report of this study would follow.
    pub fn lineage(&self, study: StudyId) -> Result<Lineage, Error> {
        self.database.read(|connection| {
            let newest = connection
                .query_row(
                    "SELECT version, CASE WHEN withdrawal_id IS NULL THEN inputs_digest END FROM report
                     WHERE study_id = ?1 ORDER BY version DESC LIMIT 1",
                    [study],
                    |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)),
                )
                .optional()?;
            let Some((version, inputs_digest)) = newest else {
                return Ok(Lineage { next_version: 1, ..Lineage::default() });
            };
            // With max() SQLite takes the other columns from the row that has it.
            let predecessors = connection
                .prepare(
                    "SELECT kind, max(version), sop_class_uid, sop_instance_uid, series_instance_uid, patient
                     FROM object JOIN report ON report.id = report_id
                     WHERE study_id = ?1 AND sop_instance_uid IS NOT NULL AND kind != 'rejection-note'
                     AND withdrawal_id IS NULL AND rejected IS NULL GROUP BY kind ORDER BY object.id",
                )?
                .query_map([study], |row| {
                    Ok(Predecessor {
                        kind: ObjectKind::named(&row.get::<_, String>(0)?, 0)?,
                        version: row.get(1)?,
                        sop_class_uid: row.get(2)?,
                        sop_instance_uid: row.get(3)?,
                        series_instance_uid: row.get(4)?,
                        patient: row.get(5)?,
                    })
                })?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Lineage { next_version: version + 1, inputs_digest, predecessors })
        })
    }

    /// Writes the files of a report to where they stay. They count, and outlive a restart, only once they are given to
    /// [`Self::written`] or [`Self::attach`]; dropped before, they are removed.
    pub async fn prepare(&self, files: Vec<ReportFile>, now: Timestamp) -> Result<Prepared, Error> {
        let mut prepared = Prepared { spool_files: Arc::clone(&self.files), files: Vec::new(), patient: None };
        let written = tokio::task::spawn_blocking(move || {
            for file in files {
                let files = Arc::clone(&prepared.spool_files);
                let relative = files.name(Home::Reports(file.kind.extension()), now)?;
                let to = files.create(&relative)?;
                prepared.files.push((file, relative));
                let Some((file, relative)) = prepared.files.last() else { continue };
                to.write_all_at(&file.bytes, 0).map_err(|error| files.failed(&files.absolute(relative), error))?;
                files.flush(&*to, relative)?;
            }
            Ok(prepared)
        });
        self.database.watching(written.await.map_err(|_| Error::Stopped)?)
    }

    /// Keeps a report and queues its deliveries, in one step with the end of the reading.
    ///
    /// False when instances came meanwhile: the report is dropped, because it did not see them all.
    pub async fn written(
        &self,
        claim: &Claim,
        version: i64,
        inputs_digest: String,
        rule: String,
        report: Prepared,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let claim = claim.clone();
        self.database
            .write(move |connection| {
                if !leave_reading(connection, &claim, StudyState::Written, None, Some(&rule))? {
                    return Ok(false);
                }
                let id: i64 = connection.query_row(
                    "INSERT INTO report (study_id, version, inputs_digest, written_at, patient)
                     VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id",
                    params![claim.study, version, inputs_digest, now, report.patient],
                    |row| row.get(0),
                )?;
                supersede(connection, claim.study, version)?;
                report.insert(connection, id, now)?;
                settle_deliveries(connection, claim.study)?;
                Ok(true)
            })
            .await
    }

    /// Adds files that stay here to a report that is written. Errors when there is no such report.
    pub async fn attach(&self, study: StudyId, version: i64, files: Prepared, now: Timestamp) -> Result<(), Error> {
        self.database
            .step(move |connection| {
                let report = connection.query_row(
                    "SELECT id FROM report WHERE study_id = ?1 AND version = ?2",
                    params![study, version],
                    |row| row.get(0),
                )?;
                files.insert(connection, report, now)
            })
            .await
    }
}
