-- Reads which places in status lists some entries gave; locks nothing (primary key).
SELECT log_index, places
FROM outlook
WHERE log_index = ANY (%(indexes)s)
