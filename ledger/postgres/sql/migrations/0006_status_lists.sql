-- Status lists and notices of ends: what follows from the published log with time.

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

-- The place of each version of a certificate, for ever, and what it says now.
CREATE TABLE status_place (
    map_key bytea NOT NULL CHECK (length(map_key) = 32),
    version integer NOT NULL CHECK (version > 0),
    list integer NOT NULL REFERENCES status_list,
    idx integer NOT NULL CHECK (idx BETWEEN 0 AND 1048575),
    status smallint NOT NULL CHECK (status BETWEEN 0 AND 4),  -- ledger/statuslist.py
    PRIMARY KEY (map_key, version),
    UNIQUE (list, idx)
);
CREATE INDEX status_place_said ON status_place (list) WHERE status <> 0;

-- When time alone changes something: a certificate is looked at anew from due_at on, and when
-- the clock stands before holds_from again.
CREATE TABLE outlook (
    map_key bytea PRIMARY KEY CHECK (length(map_key) = 32),
    holds_from bigint NOT NULL,
    due_at bigint
);
CREATE INDEX outlook_due_at ON outlook (due_at);
CREATE INDEX outlook_holds_from ON outlook (holds_from);

-- What certledger.expiry.v1 says, each once for ever.
CREATE TABLE expiry_notice (
    number bigint PRIMARY KEY CHECK (number >= 0),
    map_key bytea NOT NULL CHECK (length(map_key) = 32),
    version integer NOT NULL,
    step smallint NOT NULL,  -- days before the end
    notice bytea NOT NULL,
    UNIQUE (map_key, version, step)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON expiry_notice
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON status_secret
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
