-- Begins a partition at offset 0.
INSERT INTO intake (topic_id, partition, next_offset)
VALUES (%(topic_id)s, %(partition)s, 0)
ON CONFLICT DO NOTHING
