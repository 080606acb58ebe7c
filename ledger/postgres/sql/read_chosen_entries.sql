-- Reads entries by their log indexes (primary key).
SELECT log_index, data
FROM entry
WHERE log_index = ANY (%(indexes)s::bigint[])
