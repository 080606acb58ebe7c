-- Streams what became of every Kafka record, place by place (primary key).
SELECT topic_id, partition, record_offset, outcome, log_index, outbox_number
FROM accounting
ORDER BY topic_id, partition, record_offset
