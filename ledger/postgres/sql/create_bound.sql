-- Makes the session's table for holders whose record changes.
CREATE TEMPORARY TABLE IF NOT EXISTS bound (
    map_key bytea NOT NULL,
    acts bigint NOT NULL,
    link bytea NOT NULL
) ON COMMIT DELETE ROWS
