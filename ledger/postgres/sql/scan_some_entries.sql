-- Reads a range of entries (primary key).
SELECT log_index, data
FROM entry
WHERE log_index >= %(begin)s AND log_index < %(end)s
ORDER BY log_index
