-- Reads the newest dead letters from a number on, without what is in them (primary key, backwards).
SELECT number, partition, record_offset, coalesce(code, '')
FROM outbox
WHERE number >= %(begin)s AND outcome = 'dead-letter'
ORDER BY number DESC
LIMIT %(limit)s
