-- Makes the session's table for changed certificates.
CREATE TEMPORARY TABLE IF NOT EXISTS changed (
    map_key bytea NOT NULL,
    record bytea NOT NULL,
    holder text
) ON COMMIT DELETE ROWS
