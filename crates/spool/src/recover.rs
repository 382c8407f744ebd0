//! What a start does before anything else: makes files and rows agree, from what the disk really holds.

use std::collections::HashSet;

use rusqlite::params;

use crate::{
    Error, Spool, Timestamp,
    disk::{INCOMING, INSTANCES, REPORTS},
};

/// What recovery found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Instances that were cut off while being received; none was acknowledged.
    pub abandoned: usize,
    /// Files without a row: a crash came between rename and commit; none was acknowledged.
    pub orphans: usize,
    /// Studies whose reading was cut off; they will be read again.
    pub readings: usize,
    /// Rows whose file is gone: somebody or something removed acknowledged data. Their studies are held.
    pub missing: Vec<String>,
}

impl Spool {
    pub(crate) fn recover(&self, now: Timestamp) -> Result<Recovery, Error> {
        let mut recovery = Recovery::default();
        for file in self.disk.files_below(INCOMING)? {
            self.disk.remove(&self.absolute(&file));
            recovery.abandoned += 1;
        }
        let known: HashSet<String> = self.database.read(|connection| {
            connection
                .prepare(
                    "SELECT path FROM instance UNION ALL SELECT path FROM conflict UNION ALL SELECT path FROM object",
                )?
                .query_map([], |row| row.get(0))?
                .collect()
        })?;
        let mut present: HashSet<String> = HashSet::new();
        for file in [self.disk.files_below(INSTANCES)?, self.disk.files_below(REPORTS)?].concat() {
            if known.contains(&file) {
                present.insert(file);
            } else {
                self.disk.remove(&self.absolute(&file));
                recovery.orphans += 1;
            }
        }
        recovery.missing = known.difference(&present).cloned().collect();
        recovery.missing.sort();
        let missing = recovery.missing.clone();
        recovery.readings = self.database.write_now(move |transaction| {
            let readings = transaction.execute("UPDATE study SET state = 'settled' WHERE state = 'reading'", [])?;
            // Senders that were cut off come back: they get the whole quiet period again.
            transaction.execute(
                "UPDATE study SET due_at = max(due_at, ?1 + quiet_ms) WHERE state = 'received'",
                params![now],
            )?;
            for path in &missing {
                transaction.execute(
                    "UPDATE study SET state = 'held', reason = 'a file of this study is gone from the spool: ' || ?1
                     WHERE id IN (SELECT study_id FROM instance WHERE path = ?1
                                  UNION SELECT study_id FROM object JOIN report ON report.id = report_id WHERE path = ?1)",
                    params![path],
                )?;
            }
            Ok(readings)
        })?;
        Ok(recovery)
    }
}
