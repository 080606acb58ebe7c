-- Reads queued messages in their order, without the records of dead letters (primary key).
SELECT number, outcome, topic_id, partition, record_offset, code, message, log_index, key, notice
FROM outbox
WHERE number >= %(begin)s
ORDER BY number
LIMIT %(limit)s
