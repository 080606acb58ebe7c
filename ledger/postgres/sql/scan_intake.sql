-- Reads the next offsets of all partitions.
SELECT topic_id, partition, next_offset, last_record
FROM intake
ORDER BY topic_id, partition
