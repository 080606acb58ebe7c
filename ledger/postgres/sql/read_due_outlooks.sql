-- Reads entries with certificates that must be looked at anew at a time (outlook_due_at), and where the clock stands
-- before one that was seen also those of which some were looked at since then (sequential; primary key). Of the latter,
-- and of those due at once, all certificates.
SELECT log_index, seen_at > %(now)s OR due_at = %(at_once)s, dues
FROM (
    (SELECT log_index FROM outlook WHERE due_at <= %(now)s ORDER BY due_at LIMIT %(limit)s)
    UNION
    (SELECT log_index FROM outlook WHERE %(early)s AND seen_at > %(now)s LIMIT %(limit)s)
) AS due
JOIN outlook USING (log_index)
ORDER BY log_index
