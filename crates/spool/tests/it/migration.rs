//! A spool of an earlier version opens, and has what it had.

use std::fs;

use rusqlite::{Connection, params};

use super::*;

/// The schema of version 2, as it was released.
const VERSION_2: &str = include_str!("../data/version_2.sql");

/// A study with two instances, one of them twice, as version 2 kept it.
fn spool_of_version_2(dir: &Path) {
    // The folders and the lock are the same.
    drop(open(dir, 0));
    let database = dir.join("state.sqlite");
    for name in ["state.sqlite", "state.sqlite-wal", "state.sqlite-shm"] {
        let _ = fs::remove_file(dir.join(name));
    }
    let connection = Connection::open(database).unwrap();
    connection.execute_batch(VERSION_2).unwrap();
    connection
        .execute_batch(
            "INSERT INTO installation (id) VALUES ('0123');
             INSERT INTO study (id, study_instance_uid, state, generation, quiet_ms, due_at, received_at, last_received_at)
             VALUES (7, '1.2.3', 'delivered', 2, 1, 1, 1, 1);
             INSERT INTO report (id, study_id, version, inputs_digest, written_at) VALUES (1, 7, 1, 'a', 1);
             PRAGMA user_version = 2;",
        )
        .unwrap();
    for (id, uid, comment) in [(1, "1.2.3.1", "first"), (2, "1.2.3.2", "second"), (3, "1.2.3.1", "other")] {
        let bytes = data_set("1.2.3", uid, "Acme", comment);
        let path = format!("instances/{id}.dcm");
        fs::create_dir_all(dir.join("instances")).unwrap();
        fs::write(dir.join(&path), &bytes).unwrap();
        let digest = dataset::Digest::of(&bytes).to_string();
        let length = i64::try_from(bytes.len()).unwrap();
        if id < 3 {
            connection
                .execute(
                    "INSERT INTO instance (id, study_id, series_instance_uid, sop_instance_uid, sop_class_uid,
                     transfer_syntax_uid, path, digest, data_set_at, bytes, source, received_at, own)
                     VALUES (?1, 7, '1.2.3.9', ?2, '1.2.840.10008.5.1.4.1.1.1', '1.2.840.10008.1.2.1', ?3, ?4, 0, ?5,
                     'test', 1, 0)",
                    params![id, uid, path, digest, length],
                )
                .unwrap();
        } else {
            connection
                .execute(
                    "INSERT INTO conflict (instance_id, path, digest, data_set_at, bytes, source, received_at)
                     VALUES (1, ?1, ?2, 0, ?3, 'test', 2)",
                    params![path, digest, length],
                )
                .unwrap();
        }
    }
}

#[tokio::test]
async fn a_spool_of_version_2_opens_with_all_it_had() {
    let dir = tempfile::tempdir().unwrap();
    spool_of_version_2(dir.path());
    for _ in 0..2 {
        let (spool, recovery) = open(dir.path(), 0);
        assert_eq!((recovery.orphans, recovery.missing.len()), (0, 0));
        let detail = spool.study("1.2.3").unwrap();
        assert_eq!((detail.study.id, detail.study.state.as_str(), detail.study.conflicts), (7, "delivered", 1));
        let uids: Vec<&str> = detail.instances.iter().map(|it| it.sop_instance_uid.as_str()).collect();
        assert_eq!(uids, ["1.2.3.1", "1.2.3.2"]);
        let [quarantined] = detail.quarantined.as_slice() else { panic!("{:?}", detail.quarantined) };
        assert_eq!((quarantined.series_instance_uid.as_str(), quarantined.decision), ("1.2.3.9", None));
        assert_eq!(spool.uncompared(9).unwrap().len(), 1, "it is compared now");
        assert_eq!(spool.installation().unwrap(), "0123");
        assert_eq!(spool.lineage(7).unwrap().next_version, 2);
    }
}

#[tokio::test]
async fn a_spool_of_a_later_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 0));
    Connection::open(dir.path().join("state.sqlite")).unwrap().pragma_update(None, "user_version", 4).unwrap();
    let refused = Spool::open(dir.path(), Options { reserve_bytes: 0, ..Options::default() }, 0);
    assert!(matches!(refused.err(), Some(Error::Schema { found: 4, .. })));
}
