-- The status maps: which status entries carry them, and the upper part of their trees.

ALTER TABLE status ADD COLUMN maps boolean NOT NULL DEFAULT false;  -- the entry carries map roots
CREATE INDEX status_maps ON status (log_index) WHERE maps;

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
