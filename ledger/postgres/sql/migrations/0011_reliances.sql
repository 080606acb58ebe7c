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
    reliance_key bytea CHECK (length(reliance_key) = 32)
);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reliance_act
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON reliance_hold
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON recall
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
