-- Makes the session's table for changed certificates.
CREATE TEMPORARY TABLE IF NOT EXISTS changed (
    map_key uuid NOT NULL,
    at tid,  -- where its row is, null where that is not known
    piece integer NOT NULL,  -- of the turn
    state bytea NOT NULL,
    added bytea NOT NULL
) ON COMMIT DELETE ROWS
