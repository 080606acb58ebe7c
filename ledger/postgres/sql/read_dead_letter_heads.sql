-- Reads dead letters from a number on, with the first bytes of their records (primary key).
SELECT number, topic_id, partition, record_offset, code, message,
    octet_length(record), substring(record FOR %(head)s)
FROM outbox
WHERE number >= %(begin)s AND outcome = 'dead-letter'
    AND (%(code)s::text IS NULL OR code = %(code)s)
ORDER BY number
LIMIT %(limit)s
