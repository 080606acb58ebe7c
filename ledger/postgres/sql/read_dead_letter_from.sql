-- Finds the number of what is said about one Kafka record (primary key of accounting).
SELECT outbox_number
FROM accounting
WHERE topic_id = %(topic_id)s AND partition = %(partition)s AND record_offset = %(offset)s
