-- Measures the delta lists of a range of entries in bytes; locks nothing (primary key).
SELECT coalesce(sum(length(certificates) + length(holders)), 0)
FROM delta
WHERE log_index >= %(begin)s AND log_index < %(end)s
