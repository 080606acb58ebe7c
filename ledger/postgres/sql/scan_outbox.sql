-- Streams everything that is said about records that were not logged (primary key).
SELECT number, topic_id, partition, record_offset, outcome, log_index, code, message, key, notice,
    record
FROM outbox
ORDER BY number
