-- Reads a range of the outbox as the log topic's accounting says it (primary key).
SELECT number, outcome, topic_id, partition, record_offset, code, log_index
FROM outbox
WHERE number >= %(begin)s AND number < %(end)s
ORDER BY number
