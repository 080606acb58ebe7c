-- Certificates and holders in narrow rows, histories as places in the log, no row per event.
DO $$ BEGIN
    IF EXISTS (SELECT FROM lines) THEN
        RAISE EXCEPTION 'this ledger holds bundles in a form that was never released: make it anew'
            USING ERRCODE = 'feature_not_supported';
    END IF;
END $$;

DROP TABLE transition, holder_act, holder, certificate;

-- Who signed bundles: event lines and certificates say it by number.
CREATE TABLE signer (
    number integer PRIMARY KEY,
    department text NOT NULL,
    key_id bytea NOT NULL CHECK (length(key_id) = 32),
    UNIQUE (department, key_id)
);

ALTER TABLE lines ADD COLUMN signer integer NOT NULL;

ALTER TABLE recall
    ADD COLUMN event text NOT NULL,  -- what the change says
    ADD COLUMN revocation text,
    ADD COLUMN reason text;

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
) WITH (fillfactor = 90);
CREATE INDEX certificate_number ON certificate (number_hash);

-- Holders' records. An act is the place of its event, twice, and 1 more where it bound.
CREATE TABLE holder (
    map_key uuid PRIMARY KEY,
    rest uuid NOT NULL,
    acts bigint NOT NULL CHECK (acts > 0),
    link bytea NOT NULL CHECK (length(link) = 32),
    recent bytea NOT NULL CHECK (length(recent) = acts % 64 * 8)  -- the last acts
) WITH (fillfactor = 90);

-- Holders' older acts, 64 to a row.
CREATE TABLE holder_act (
    map_key uuid NOT NULL,
    ordinal bigint NOT NULL CHECK (ordinal >= 0 AND ordinal % 64 = 0),  -- of the first
    acts bytea NOT NULL CHECK (length(acts) = 512),
    PRIMARY KEY (map_key, ordinal)
);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON signer
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON certificate_kind
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON holder_act
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
