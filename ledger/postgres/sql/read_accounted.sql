-- Reads what became of one Kafka record (primary keys).
SELECT accounting.outcome, accounting.log_index, outbox.code
FROM accounting LEFT JOIN outbox ON outbox.number = accounting.outbox_number
WHERE accounting.topic_id = %(topic_id)s AND accounting.partition = %(partition)s
    AND accounting.record_offset = %(offset)s
