-- What blinds the holders' delta roots in entries: a backup that has it gives the same roots again.
CREATE TABLE blinding_secret (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret bytea NOT NULL CHECK (length(secret) = 32)
);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON blinding_secret
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
