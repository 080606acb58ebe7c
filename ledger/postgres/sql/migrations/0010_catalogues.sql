-- The files of published catalogues; the registry holds the root of each.
CREATE TABLE catalogue (
    name text NOT NULL,  -- of the registry record
    version integer NOT NULL CHECK (version > 0),
    data bytea NOT NULL,  -- the file as it was published, zstd
    PRIMARY KEY (name, version)
);
ALTER TABLE catalogue ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalogue
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
