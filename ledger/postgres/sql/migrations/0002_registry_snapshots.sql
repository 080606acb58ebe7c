-- The registry's leaves under recent status entries, so that proofs are as of a published checkpoint.

CREATE TABLE registry_snapshot (
    log_index bigint PRIMARY KEY,  -- of the status entry
    data bytea NOT NULL  -- the leaves in the tree's order, joined by newlines, zstd
);
ALTER TABLE registry_snapshot ALTER COLUMN data SET STORAGE EXTERNAL;
