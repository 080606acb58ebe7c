-- Reads event lines of a range of entries, chunk by chunk (primary key).
SELECT log_index, chunk, data
FROM lines
WHERE log_index >= %(begin)s AND log_index < %(end)s
ORDER BY log_index, chunk
