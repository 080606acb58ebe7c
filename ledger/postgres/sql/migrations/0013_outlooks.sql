-- Places in status lists in the narrow row that says when to look again: made anew from the log.
DROP TABLE status_place, outlook;
DELETE FROM status_list;
DELETE FROM relay WHERE name = 'follower';

-- What follows with time for each certificate. Between holds_from and due_at nothing changes unless
-- an event comes. `places`, 8 bytes a version for ever: version, status list, place in it (3 bytes), what that says.
CREATE TABLE outlook (
    map_key uuid PRIMARY KEY,  -- the first 16 bytes of the map key
    holds_from bigint NOT NULL,
    due_at bigint,
    said boolean NOT NULL,  -- some place says other than valid
    places bytea NOT NULL CHECK (length(places) % 8 = 0)
);
CREATE INDEX outlook_due_at ON outlook (due_at);

CREATE VIEW status_place WITH (security_invoker = true) AS
SELECT
    map_key,
    said,
    get_byte(places, at) * 256 + get_byte(places, at + 1) AS version,
    get_byte(places, at + 2) * 256 + get_byte(places, at + 3) AS list,
    get_byte(places, at + 4) * 65536 + get_byte(places, at + 5) * 256 + get_byte(places, at + 6) AS idx,
    get_byte(places, at + 7) AS status  -- ledger/statuslist.py
FROM outlook
CROSS JOIN LATERAL generate_series(0, length(places) - 8, 8) AS at;
