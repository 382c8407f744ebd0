-- what version 2 of the spool's database was made of

-- one row: what tells this installation from every other, and up to where the journal is no longer needed
CREATE TABLE installation (id TEXT NOT NULL, checkpointed_epoch INTEGER NOT NULL DEFAULT 0);
CREATE TABLE study (
    id                 INTEGER PRIMARY KEY,
    study_instance_uid TEXT NOT NULL UNIQUE,
    state              TEXT NOT NULL,
    reason             TEXT,
    rule               TEXT,
    priority           INTEGER NOT NULL DEFAULT 0,
    -- counts the instances that change what is to be read, so that a reading knows whether it saw them all
    generation         INTEGER NOT NULL DEFAULT 0,
    attempts           INTEGER NOT NULL DEFAULT 0,
    quiet_ms           INTEGER NOT NULL,
    due_at             INTEGER NOT NULL,
    received_at        INTEGER NOT NULL,
    last_received_at   INTEGER NOT NULL,
    -- whether a person stopped it: then nothing that comes starts it again
    stopped            INTEGER NOT NULL DEFAULT 0,
    -- when retention removed its instances
    removed_at         INTEGER
);
CREATE INDEX study_by_due ON study (state, due_at);
CREATE TABLE instance (
    id                  INTEGER PRIMARY KEY,
    study_id            INTEGER NOT NULL REFERENCES study,
    series_instance_uid TEXT NOT NULL,
    sop_instance_uid    TEXT NOT NULL UNIQUE,
    sop_class_uid       TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    path                TEXT NOT NULL,
    -- of the data set, which begins so many bytes into the file
    digest              TEXT NOT NULL,
    data_set_at         INTEGER NOT NULL,
    bytes               INTEGER NOT NULL,
    source              TEXT NOT NULL,
    received_at         INTEGER NOT NULL,
    own                 INTEGER NOT NULL
);
CREATE INDEX instance_by_study ON instance (study_id);
CREATE TABLE conflict (
    id          INTEGER PRIMARY KEY,
    instance_id INTEGER NOT NULL REFERENCES instance,
    path        TEXT NOT NULL,
    digest      TEXT NOT NULL,
    data_set_at INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    source      TEXT NOT NULL,
    received_at INTEGER NOT NULL
);
CREATE INDEX conflict_by_instance ON conflict (instance_id);
CREATE TABLE report (
    id            INTEGER PRIMARY KEY,
    study_id      INTEGER NOT NULL REFERENCES study,
    version       INTEGER NOT NULL,
    inputs_digest TEXT NOT NULL,
    written_at    INTEGER NOT NULL,
    UNIQUE (study_id, version)
);
CREATE TABLE object (
    id                  INTEGER PRIMARY KEY,
    report_id           INTEGER NOT NULL REFERENCES report,
    kind                TEXT NOT NULL,
    sop_instance_uid    TEXT UNIQUE,
    sop_class_uid       TEXT,
    series_instance_uid TEXT,
    path                TEXT NOT NULL
);
CREATE INDEX object_by_report ON object (report_id);
CREATE TABLE delivery (
    id           INTEGER PRIMARY KEY,
    object_id    INTEGER NOT NULL REFERENCES object,
    destination  TEXT NOT NULL,
    state        TEXT NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_at      INTEGER NOT NULL,
    last_error   TEXT,
    delivered_at INTEGER,
    UNIQUE (object_id, destination)
);
CREATE INDEX delivery_by_due ON delivery (state, next_at);

CREATE TABLE commitment (
    id              INTEGER PRIMARY KEY,
    transaction_uid TEXT NOT NULL,
    peer            TEXT NOT NULL,
    ae_title        TEXT NOT NULL,
    address         TEXT NOT NULL,
    -- 'waiting', 'reported', 'given up'
    state           TEXT NOT NULL,
    instances       INTEGER NOT NULL,
    requested_at    INTEGER NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_at         INTEGER NOT NULL,
    ended_at        INTEGER,
    last_error      TEXT
);
CREATE INDEX commitment_by_due ON commitment (state, next_at);
CREATE INDEX commitment_by_peer ON commitment (peer, ae_title, state);
CREATE TABLE commitment_item (
    commitment_id    INTEGER NOT NULL REFERENCES commitment ON DELETE CASCADE,
    position         INTEGER NOT NULL,
    sop_class_uid    TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    -- Failure Reason (0008,1197), 0 when committed, nothing before it was looked at
    outcome          INTEGER,
    PRIMARY KEY (commitment_id, position)
) WITHOUT ROWID;
