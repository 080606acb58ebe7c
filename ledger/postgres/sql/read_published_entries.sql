-- Reads entries from one index to before another if all are published; locks nothing (primary keys).
SELECT entry.data
FROM (
    SELECT size FROM checkpoint WHERE published_at IS NOT NULL ORDER BY size DESC LIMIT 1
) AS published
LEFT JOIN entry ON entry.log_index >= %(begin)s AND entry.log_index < %(end)s
WHERE published.size >= %(end)s
ORDER BY entry.log_index
