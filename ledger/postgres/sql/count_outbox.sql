-- Counts what became of the records of a span of the outbox, which never changes (primary key).
SELECT outcome, coalesce(code, ''), count(*)
FROM outbox
WHERE number >= %(begin)s AND number < %(end)s
GROUP BY outcome, code
