-- Reads the last status entry that carries the maps, and the log's size; locks nothing (status_maps, primary keys).
SELECT last.log_index, entry.data, allocation.next_index
FROM allocation
LEFT JOIN LATERAL (
    SELECT log_index FROM status WHERE maps ORDER BY log_index DESC LIMIT 1
) AS last ON true
LEFT JOIN entry ON entry.log_index = last.log_index
