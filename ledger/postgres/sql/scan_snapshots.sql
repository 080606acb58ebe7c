-- Streams the registry's leaves under recent status entries (primary key).
SELECT log_index, data
FROM registry_snapshot
ORDER BY log_index
