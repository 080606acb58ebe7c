-- Adds to one running count, within the turn.
INSERT INTO tally (name, count)
VALUES (%(name)s, %(count)s)
ON CONFLICT (name) DO UPDATE SET count = tally.count + excluded.count
