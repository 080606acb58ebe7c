-- Reads a dead letter's record, its length and, where it is longer than the limit, what to know
-- of the rest (primary key).
SELECT substring(record FOR %(limit)s), length(record),
    CASE WHEN length(record) > %(limit)s THEN sha256(record) END
FROM outbox
WHERE number = %(number)s
