-- Reads the offsets of a topic's partitions.
SELECT partition, next_offset, last_record
FROM intake
WHERE topic_id = %(topic_id)s
