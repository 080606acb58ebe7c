-- Reads the delta lists of some entries; locks nothing (primary key).
SELECT log_index, certificates, holders
FROM delta
WHERE log_index = ANY (%(indexes)s)
