-- Every holder's acts: a certificate bound to the pseudonym, or unbound from it.
CREATE TABLE holder_act (
    map_key bytea NOT NULL CHECK (length(map_key) = 32),
    ordinal integer NOT NULL CHECK (ordinal >= 0),
    log_index bigint NOT NULL,
    position integer NOT NULL,
    certificate bytea NOT NULL CHECK (length(certificate) = 32),  -- map key
    bound boolean NOT NULL,
    PRIMARY KEY (map_key, ordinal)
);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON holder_act
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
