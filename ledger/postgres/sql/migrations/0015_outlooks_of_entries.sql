-- What follows with time in a row per entry, places in status lists with it: made anew from the log, the same places
-- as before, as they are drawn by the ledger's secret in the log's order. Lists keep their addresses, and their forms
-- until the follower is again as far as these are.
DROP VIEW status_place;
DROP TABLE outlook;
DELETE FROM relay WHERE name = 'follower';

-- What follows with time for the certificates that an entry changed. `dues`, 7 bytes each: the position of a
-- certificate's last event in the entry, and the second (5 bytes) from which it must be looked at anew, unless an event
-- comes. `places`, 8 bytes for ever for each version that the entry gave: position, version, status list and place.
CREATE TABLE outlook (
    log_index bigint PRIMARY KEY,
    seen_at bigint NOT NULL,  -- as of which any of them was looked at last; microseconds, as due_at
    due_at bigint,  -- the first of the dues
    dues bytea NOT NULL CHECK (length(dues) % 7 = 0),
    places bytea NOT NULL CHECK (length(places) % 8 = 0)
);
CREATE INDEX outlook_due_at ON outlook (due_at);
ALTER TABLE outlook ALTER COLUMN dues SET STORAGE EXTERNAL;
ALTER TABLE outlook ALTER COLUMN places SET STORAGE EXTERNAL;

-- What is said at the places of a status list, change by change, 4 bytes each: place, and what (ledger/statuslist.py).
CREATE TABLE status_change (
    list integer NOT NULL,
    number bigint NOT NULL CHECK (number >= 0),
    changes bytea NOT NULL CHECK (length(changes) > 0 AND length(changes) % 4 = 0),
    PRIMARY KEY (list, number)
);
ALTER TABLE status_change ALTER COLUMN changes SET STORAGE EXTERNAL;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON status_change
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
