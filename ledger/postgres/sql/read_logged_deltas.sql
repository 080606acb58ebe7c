-- Reads a range of entries with their delta lists, null where they have none; locks nothing (primary keys).
SELECT log_index, entry.data, delta.certificates, delta.holders
FROM entry
LEFT JOIN delta USING (log_index)
WHERE log_index >= %(begin)s AND log_index < %(end)s
ORDER BY log_index
