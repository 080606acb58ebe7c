-- Reads the registry's leaves under one status entry (primary key).
SELECT data
FROM registry_snapshot
WHERE log_index = %(log_index)s
