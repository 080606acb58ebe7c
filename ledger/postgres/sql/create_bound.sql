-- Makes the session's table for known holders whose record changes.
CREATE TEMPORARY TABLE IF NOT EXISTS bound (
    map_key uuid NOT NULL,
    at tid,  -- where its row is, null where that is not known
    piece integer NOT NULL,  -- of the turn
    acts bigint NOT NULL,
    link bytea NOT NULL,
    recent bytea NOT NULL
) ON COMMIT DELETE ROWS
