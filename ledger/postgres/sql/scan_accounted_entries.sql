-- Streams the records that became entries in log order (sorts the whole table).
SELECT log_index, topic_id, partition, record_offset, outcome
FROM accounting
WHERE outcome = 'logged' OR (outcome = 'equivocation' AND log_index IS NOT NULL)
ORDER BY log_index, topic_id, partition, record_offset
