-- Streams the records that something is said about, by outbox number (sorts these).
SELECT outbox_number, topic_id, partition, record_offset, outcome, log_index
FROM accounting
WHERE outbox_number IS NOT NULL
ORDER BY outbox_number, topic_id, partition, record_offset
