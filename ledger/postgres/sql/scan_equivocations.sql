-- Streams second notes in log order (sorts the table, which is small).
SELECT log_index, department, lane, note_hash
FROM equivocation
ORDER BY log_index, department, lane, note_hash
