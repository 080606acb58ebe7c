-- Streams one partition's accounting with the entries and messages it led to (primary keys).
SELECT accounting.record_offset, accounting.outcome, accounting.log_index, entry.data,
    outbox.code, outbox.record
FROM accounting
LEFT JOIN entry ON entry.log_index = accounting.log_index
LEFT JOIN outbox ON outbox.number = accounting.outbox_number
WHERE accounting.topic_id = %(topic_id)s AND accounting.partition = %(partition)s
    AND accounting.record_offset >= %(begin)s
ORDER BY accounting.record_offset
