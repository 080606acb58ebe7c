-- Streams all entries in log order (primary key).
SELECT log_index, data
FROM entry
ORDER BY log_index
