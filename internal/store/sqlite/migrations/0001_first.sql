-- Each table keeps the whole row as JSON in body, and beside it the columns that are asked for.
-- Times in columns are UTC nanoseconds since 1970; 0 is none. No statement asks for the time.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE counter (kind TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE host (id TEXT PRIMARY KEY, status TEXT NOT NULL, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX host_status ON host (status, id);
CREATE TABLE last_seen (host TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE kernel (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT;

CREATE TABLE rollout (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, open INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
CREATE INDEX rollout_open ON rollout (seq) WHERE open = 1;

CREATE TABLE operation (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, host TEXT NOT NULL, owner TEXT NOT NULL,
  open INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX operation_open ON operation (seq) WHERE open = 1;
CREATE INDEX operation_host ON operation (host, seq);
CREATE INDEX operation_owner ON operation (owner, seq);

CREATE TABLE grants (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, operation TEXT NOT NULL, live INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX grants_live ON grants (seq) WHERE live = 1;
CREATE INDEX grants_operation ON grants (operation, seq);

CREATE TABLE approval (id INTEGER PRIMARY KEY, checksum TEXT NOT NULL, body TEXT NOT NULL) STRICT;
CREATE INDEX approval_checksum ON approval (checksum, id);
CREATE TABLE withdrawal (
  id INTEGER PRIMARY KEY, approval INTEGER NOT NULL REFERENCES approval (id), who TEXT NOT NULL, why TEXT NOT NULL,
  at INTEGER NOT NULL
) STRICT;
CREATE INDEX withdrawal_approval ON withdrawal (approval);

CREATE TABLE incident (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, open INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
CREATE INDEX incident_open ON incident (seq) WHERE open = 1;

CREATE TABLE event (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, rollout TEXT NOT NULL, host TEXT NOT NULL, operation TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE INDEX event_rollout ON event (rollout, seq) WHERE rollout <> '';
CREATE INDEX event_host ON event (host, seq) WHERE host <> '';
CREATE INDEX event_operation ON event (operation, seq) WHERE operation <> '';

CREATE TABLE budget (by TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE enrol_token (seq INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT;
CREATE TABLE operator (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE certificate (
  seq INTEGER PRIMARY KEY, serial TEXT NOT NULL UNIQUE, host TEXT NOT NULL, revoked INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX certificate_host ON certificate (host, seq);
CREATE INDEX certificate_revoked ON certificate (serial) WHERE revoked = 1;

CREATE TABLE idempotency (
  scope TEXT NOT NULL, key TEXT NOT NULL, result TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
