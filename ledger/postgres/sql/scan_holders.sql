-- Streams all holders' records (sequential).
SELECT map_key, acts, link
FROM holder
