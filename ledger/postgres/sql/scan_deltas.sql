-- Streams delta lists in log order (primary key).
SELECT log_index, certificates, holders
FROM delta
ORDER BY log_index
