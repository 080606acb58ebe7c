-- Reads queued messages in their order (primary key).
SELECT number, outcome, topic_id, partition, record_offset, code, message, log_index,
    key, notice, record
FROM outbox
WHERE number >= %(begin)s
ORDER BY number
LIMIT %(limit)s
