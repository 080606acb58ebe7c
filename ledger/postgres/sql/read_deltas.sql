-- Reads delta lists of a range of entries (primary key).
SELECT log_index, certificates, holders
FROM delta
WHERE log_index >= %(begin)s AND log_index < %(end)s
ORDER BY log_index
