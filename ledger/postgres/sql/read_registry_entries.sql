-- Reads the registry entries in a range (primary key, then each entry's data).
SELECT log_index, data
FROM entry
WHERE log_index >= %(begin)s AND log_index < %(end)s AND position('"kind":"registry"'::bytea IN data) > 0
ORDER BY log_index
