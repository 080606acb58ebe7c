-- Measures the certificates' delta lists of published entries, 0 without one; locks nothing (primary keys).
SELECT coalesce(length(delta.certificates), 0)
FROM (
    SELECT size FROM checkpoint WHERE published_at IS NOT NULL ORDER BY size DESC LIMIT 1
) AS published
LEFT JOIN entry ON entry.log_index >= %(begin)s AND entry.log_index < %(end)s
LEFT JOIN delta ON delta.log_index = entry.log_index
WHERE published.size >= %(end)s
ORDER BY entry.log_index
