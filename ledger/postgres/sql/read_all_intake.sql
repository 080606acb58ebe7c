-- Reads the offsets of all partitions ever taken from.
SELECT topic_id, partition, next_offset
FROM intake
