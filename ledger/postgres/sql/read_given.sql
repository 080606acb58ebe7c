-- Reads which places in status lists entries gave, in log order from behind one on; locks nothing (primary key).
SELECT log_index, places
FROM outlook
WHERE log_index > %(after)s
ORDER BY log_index
LIMIT %(limit)s
