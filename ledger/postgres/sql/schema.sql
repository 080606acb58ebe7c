-- The ledger's whole schema. The migrations, applied from nothing, give exactly this (by test).

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION microseconds_now() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$$;

-- The turn: whoever holds this row's lock appends to the log.
CREATE TABLE allocation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    origin text NOT NULL,
    next_index bigint NOT NULL CHECK (next_index > 0),
    ledger_time bigint NOT NULL,  -- microseconds since 1970, never decreasing
    registry_index bigint NOT NULL,  -- log index of the last registry change
    next_outbox bigint NOT NULL DEFAULT 0
);

-- The tree head: moved by the sequencer alone, by compare-and-swap.
CREATE TABLE head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    size bigint NOT NULL CHECK (size >= 0),  -- leaves
    root bytea NOT NULL CHECK (length(root) = 32)
);

CREATE TABLE entry (
    log_index bigint PRIMARY KEY CHECK (log_index >= 0),
    data bytea NOT NULL CHECK (length(data) BETWEEN 1 AND 65535)
);
ALTER TABLE entry ALTER COLUMN data SET STORAGE EXTERNAL;

-- Who signed bundles: event lines and certificates say it by number.
CREATE TABLE signer (
    number integer PRIMARY KEY,
    department text NOT NULL,
    key_id bytea NOT NULL CHECK (length(key_id) = 32),
    UNIQUE (department, key_id)
);

-- Event lines of logged bundles, 128 to a row, joined by newlines, compressed with zstd; and the roots over each 32
-- of them where the bundle has others.
CREATE TABLE lines (
    log_index bigint NOT NULL,
    chunk integer NOT NULL CHECK (chunk >= 0),
    data bytea NOT NULL,
    signer integer NOT NULL,
    groups bytea CHECK (length(groups) > 0 AND length(groups) % 32 = 0),
    PRIMARY KEY (log_index, chunk)
);
ALTER TABLE lines ALTER COLUMN data SET STORAGE EXTERNAL;

-- Delta lists: ascending (map key, record hash), 64 bytes each.
CREATE TABLE delta (
    log_index bigint PRIMARY KEY,
    certificates bytea NOT NULL CHECK (length(certificates) % 64 = 0),
    holders bytea NOT NULL CHECK (length(holders) % 64 = 0)
);
ALTER TABLE delta ALTER COLUMN certificates SET STORAGE EXTERNAL;
ALTER TABLE delta ALTER COLUMN holders SET STORAGE EXTERNAL;

-- Which types of which issuers there are certificates of: these say it by number.
CREATE TABLE certificate_kind (
    number integer PRIMARY KEY,
    type_code text NOT NULL,
    issuer text NOT NULL,
    UNIQUE (type_code, issuer)
);

-- Current states, and where each certificate's events lie in the log (ledger/staterow.py).
CREATE TABLE certificate (
    map_key uuid PRIMARY KEY,  -- the first 16 bytes of the map key
    rest uuid NOT NULL,  -- the others
    kind integer NOT NULL,
    number_hash integer NOT NULL,  -- the number itself is in the event lines
    state bytea NOT NULL,
    history bytea NOT NULL CHECK (length(history) > 0 AND length(history) % 12 = 0)
) WITH (
    autovacuum_vacuum_scale_factor = 1,
    autovacuum_vacuum_insert_scale_factor = 1,
    autovacuum_analyze_scale_factor = 1,
    fillfactor = 92
);
CREATE INDEX certificate_number ON certificate (number_hash);

-- Holders' records. An act is the place of its event, twice, and 1 more where it bound.
CREATE TABLE holder (
    map_key uuid PRIMARY KEY,
    rest uuid NOT NULL,
    acts bigint NOT NULL CHECK (acts > 0),
    link bytea NOT NULL CHECK (length(link) = 32),
    recent bytea NOT NULL CHECK (length(recent) = acts % 64 * 8)  -- the last acts
) WITH (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 1,
    autovacuum_vacuum_insert_scale_factor = 1,
    autovacuum_analyze_scale_factor = 1
);

-- Holders' older acts, 64 to a row.
CREATE TABLE holder_act (
    map_key uuid NOT NULL,
    ordinal bigint NOT NULL CHECK (ordinal >= 0 AND ordinal % 64 = 0),  -- of the first
    acts bytea NOT NULL CHECK (length(acts) = 512),
    PRIMARY KEY (map_key, ordinal)
);

CREATE TABLE lane (
    department text NOT NULL,
    lane integer NOT NULL,
    epoch integer NOT NULL CHECK (epoch >= 0),
    producer text,
    next_sequence bigint NOT NULL CHECK (next_sequence >= 0),
    previous bytea NOT NULL CHECK (length(previous) = 32),
    signing_time bigint NOT NULL,
    signed_at text NOT NULL,
    log_index bigint NOT NULL,
    PRIMARY KEY (department, lane)
);

-- Which note used up which number of a lane.
CREATE TABLE lane_note (
    department text NOT NULL,
    lane integer NOT NULL,
    epoch integer NOT NULL,
    sequence bigint NOT NULL,
    producer text NOT NULL,
    note_hash bytea NOT NULL CHECK (length(note_hash) = 32),
    log_index bigint NOT NULL,
    PRIMARY KEY (department, lane, epoch, sequence)
);

-- Second notes for a number, each logged once.
CREATE TABLE equivocation (
    department text NOT NULL,
    lane integer NOT NULL,
    note_hash bytea NOT NULL CHECK (length(note_hash) = 32),
    log_index bigint NOT NULL,
    PRIMARY KEY (department, lane, note_hash)
);

-- The next offset to take from each intake partition, and the hash of the last record taken.
CREATE TABLE intake (
    topic_id text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    last_record bytea CHECK (length(last_record) = 32),
    PRIMARY KEY (topic_id, partition)
);

-- What became of every Kafka record: exactly one row each.
CREATE TABLE accounting (
    topic_id text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL CHECK (record_offset >= 0),
    outcome text NOT NULL CHECK (outcome IN (
        'logged', 'repeat', 'out-of-sequence', 'fenced', 'equivocation', 'dead-letter', 'skipped',
        'lost'
    )),
    log_index bigint,  -- of the entry it became or repeats, or that declares it lost
    outbox_number bigint,  -- of what is said about it, null when logged
    CHECK ((outcome = 'logged') = (outbox_number IS NULL)),
    CHECK (outcome NOT IN ('logged', 'repeat', 'lost') OR log_index IS NOT NULL),
    PRIMARY KEY (topic_id, partition, record_offset)
);

-- What leaves for Kafka beside receipts of logged bundles: notices, dead letters, repeats.
CREATE TABLE outbox (
    number bigint PRIMARY KEY,
    outcome text NOT NULL,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    code text,
    message text,
    log_index bigint,
    key bytea,
    notice bytea,  -- what the department hears, null when nobody can be told
    record bytea  -- the original bytes of a dead letter
);

CREATE TABLE registry_record (
    name text PRIMARY KEY,
    data bytea NOT NULL,
    log_index bigint NOT NULL
);

-- The files of published catalogues; the registry holds the root of each.
CREATE TABLE catalogue (
    name text NOT NULL,  -- of the registry record
    version integer NOT NULL CHECK (version > 0),
    data bytea NOT NULL,  -- the file as it was published, zstd
    PRIMARY KEY (name, version)
);
ALTER TABLE catalogue ALTER COLUMN data SET STORAGE EXTERNAL;

-- Where status entries stand, to find the last one known at a time.
CREATE TABLE status (
    log_index bigint PRIMARY KEY,
    ledger_time bigint NOT NULL,
    maps boolean NOT NULL DEFAULT false  -- the entry carries map roots
);
CREATE INDEX status_ledger_time ON status (ledger_time);
CREATE INDEX status_maps ON status (log_index) WHERE maps;

-- The registry's leaves under recent status entries, so that proofs are as of a published checkpoint.
CREATE TABLE registry_snapshot (
    log_index bigint PRIMARY KEY,  -- of the status entry
    data bytea NOT NULL  -- the leaves in the tree's order, joined by newlines, zstd
);
ALTER TABLE registry_snapshot ALTER COLUMN data SET STORAGE EXTERNAL;

-- C2SP tiles of 256 hashes; only a level's last tile is partial.
CREATE TABLE tile (
    level integer NOT NULL CHECK (level BETWEEN 0 AND 7),
    tile_index bigint NOT NULL CHECK (tile_index >= 0),
    data bytea NOT NULL CHECK (length(data) BETWEEN 32 AND 8192 AND length(data) % 32 = 0),
    PRIMARY KEY (level, tile_index)
);
ALTER TABLE tile ALTER COLUMN data SET STORAGE EXTERNAL;

-- Tiles of the trees over groups of four buckets, each version as of the status entry at log_index.
CREATE TABLE map_tile (
    kind text NOT NULL CHECK (kind IN ('C', 'H')),
    level integer NOT NULL CHECK (level BETWEEN 0 AND 3),
    tile_index bigint NOT NULL CHECK (tile_index >= 0),
    log_index bigint NOT NULL,
    data bytea NOT NULL CHECK (length(data) BETWEEN 32 AND 8192 AND length(data) % 32 = 0),
    PRIMARY KEY (kind, level, tile_index, log_index)
);
ALTER TABLE map_tile ALTER COLUMN data SET STORAGE EXTERNAL;

-- Every checkpoint ever signed.
CREATE TABLE checkpoint (
    size bigint PRIMARY KEY,
    note bytea NOT NULL,
    published_at bigint  -- microseconds; null until it is published
);

-- How far certledger.log.v1 holds what is here.
CREATE TABLE log_topic (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    topic_id text NOT NULL,
    last_offset bigint NOT NULL,  -- of the last acknowledged record, -1 for none
    entries bigint NOT NULL,  -- all entries below are acknowledged
    outbox bigint NOT NULL  -- all accounting below is acknowledged
);

CREATE TABLE relay (
    name text PRIMARY KEY,
    position bigint NOT NULL
);

-- What blinds the holders' delta roots in entries: a backup that has it gives the same roots again.
CREATE TABLE blinding_secret (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret bytea NOT NULL CHECK (length(secret) = 32)
);

-- Running counts for `certledger status`: what the log's outcomes add up to.
CREATE TABLE tally (
    name text PRIMARY KEY,  -- certificates, admitted, or the code of a refusal
    count bigint NOT NULL CHECK (count >= 0)
);

-- What places in status lists are drawn by: a backup that has it gives the same places again.
CREATE TABLE status_secret (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret bytea NOT NULL CHECK (length(secret) = 32)
);

-- One list of 2^20 entries; the URI that credentials name is kept for ever.
CREATE TABLE status_list (
    list integer PRIMARY KEY CHECK (list > 0),
    uri text NOT NULL UNIQUE,
    is_changed boolean NOT NULL DEFAULT false,  -- since the forms below were made
    vkey text,  -- of the key that signed them
    tree_size bigint,  -- leaves that they reflect
    issued_at bigint,  -- seconds since 1970
    jwt bytea,
    cwt bytea,
    revocation bytea,
    suspension bytea,
    refresh bytea,
    CHECK (num_nulls(vkey, tree_size, issued_at, jwt, cwt, revocation, suspension, refresh) IN (0, 8))
);
ALTER TABLE status_list ALTER COLUMN jwt SET STORAGE EXTERNAL;
ALTER TABLE status_list ALTER COLUMN cwt SET STORAGE EXTERNAL;
ALTER TABLE status_list ALTER COLUMN revocation SET STORAGE EXTERNAL;
ALTER TABLE status_list ALTER COLUMN suspension SET STORAGE EXTERNAL;
ALTER TABLE status_list ALTER COLUMN refresh SET STORAGE EXTERNAL;

-- What follows with time for the certificates that an entry changed. `dues`, 7 bytes each: the position of a
-- certificate's last event in the entry, and the second (5 bytes) from which it must be looked at anew, unless an event
-- comes. `places`, 8 bytes for ever for each version that the entry gave: position, version, status list and place.
CREATE TABLE outlook (
    log_index bigint PRIMARY KEY,
    seen_at bigint NOT NULL,  -- as of which any of them was looked at last; microseconds, as due_at
    due_at bigint,  -- the first of the dues
    dues bytea NOT NULL CHECK (length(dues) % 7 = 0),
    places bytea NOT NULL CHECK (length(places) % 8 = 0)
);
CREATE INDEX outlook_due_at ON outlook (due_at);
ALTER TABLE outlook ALTER COLUMN dues SET STORAGE EXTERNAL;
ALTER TABLE outlook ALTER COLUMN places SET STORAGE EXTERNAL;

-- What is said at the places of a status list, change by change, 4 bytes each: place, and what (ledger/statuslist.py).
CREATE TABLE status_change (
    list integer NOT NULL,
    number bigint NOT NULL CHECK (number >= 0),
    changes bytea NOT NULL CHECK (length(changes) > 0 AND length(changes) % 4 = 0),
    PRIMARY KEY (list, number)
);
ALTER TABLE status_change ALTER COLUMN changes SET STORAGE EXTERNAL;

-- What certledger.expiry.v1 says, each once for ever.
CREATE TABLE expiry_notice (
    number bigint PRIMARY KEY CHECK (number >= 0),
    map_key bytea NOT NULL CHECK (length(map_key) = 32),
    version integer NOT NULL,
    step smallint NOT NULL,  -- days before the end
    notice bytea NOT NULL,
    UNIQUE (map_key, version, step)
);

-- How the witnesses of this ledger stand, for `certledger status`.
CREATE TABLE witness (
    name text PRIMARY KEY,  -- in the policy
    cosigned_size bigint,  -- of the largest checkpoint that it cosigned since the sequencer's start
    cosigned_at bigint,  -- seconds: the time that it stated
    problem text  -- why it did not cosign the last one it was asked for
);

-- Ends the session that holds the turn while PostgreSQL waits for its bytes for 3 s, for roles that may
-- not end sessions: its owner is a member of those that take the turn.
CREATE FUNCTION end_frozen_turn() RETURNS bigint LANGUAGE sql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT count(pg_terminate_backend(pid))
    FROM pg_stat_activity
    WHERE backend_xid = (SELECT xmax FROM allocation)
        AND wait_event = 'ClientRead'
        AND query_start < clock_timestamp() - interval '3 s'
$$;
-- What offices rely on: behind the access rules of event lines, as joined it tells of persons.
CREATE TABLE reliance (
    reliance_key bytea PRIMARY KEY CHECK (length(reliance_key) = 32),
    office text NOT NULL,
    service text NOT NULL,
    case_hash bytea NOT NULL CHECK (length(case_hash) = 32),
    acts integer NOT NULL CHECK (acts > 0),
    is_ended boolean NOT NULL
);

CREATE TABLE reliance_act (
    reliance_key bytea NOT NULL CHECK (length(reliance_key) = 32),
    ordinal integer NOT NULL CHECK (ordinal >= 0),
    log_index bigint NOT NULL,
    position integer NOT NULL,
    event_id bytea NOT NULL CHECK (length(event_id) = 16),
    line_hash bytea NOT NULL CHECK (length(line_hash) = 32),
    PRIMARY KEY (reliance_key, ordinal)
);

-- From which act to which a reliance holds a certificate.
CREATE TABLE reliance_hold (
    certificate bytea NOT NULL CHECK (length(certificate) = 32),  -- map key
    reliance_key bytea NOT NULL CHECK (length(reliance_key) = 32),
    log_index bigint NOT NULL,  -- place of the act
    position integer NOT NULL,
    number integer NOT NULL CHECK (number >= 0),  -- of the certificate in the act's list
    version bigint NOT NULL CHECK (version > 0),
    tree_size bigint NOT NULL CHECK (tree_size > 0),
    lasts text NOT NULL CHECK (lasts IN ('decision', 'entitlement')),
    event_id bytea NOT NULL CHECK (length(event_id) = 16),
    end_index bigint,  -- place of the act that ended it, null while it goes on
    end_position integer,
    CHECK ((end_index IS NULL) = (end_position IS NULL)),
    PRIMARY KEY (certificate, reliance_key, log_index, position)
);
CREATE INDEX reliance_hold_open ON reliance_hold (reliance_key) WHERE end_index IS NULL;

-- Changes that are told on certledger.recalls.v1: to all who held the certificate at the place of
-- the change, or to one act that came after it.
CREATE TABLE recall (
    number bigint PRIMARY KEY CHECK (number >= 0),
    log_index bigint NOT NULL,  -- place of what made it: the change, or the act
    position integer NOT NULL,
    certificate bytea NOT NULL CHECK (length(certificate) = 32),  -- map key
    cause_index bigint NOT NULL,  -- place of the change
    cause_position integer NOT NULL,
    reliance_key bytea CHECK (length(reliance_key) = 32),
    event text NOT NULL,  -- what the change says
    revocation text,
    reason text
);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lines
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON delta
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON signer
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON certificate_kind
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON holder_act
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lane_note
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON equivocation
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON accounting
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON outbox
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON status
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON blinding_secret
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON expiry_notice
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON status_secret
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON status_change
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalogue
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reliance_act
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON reliance_hold
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON recall
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
