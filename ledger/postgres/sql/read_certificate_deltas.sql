-- Reads the certificates' delta lists of a range of entries; locks nothing (primary key).
SELECT log_index, certificates
FROM delta
WHERE log_index >= %(begin)s AND log_index < %(end)s
ORDER BY log_index
