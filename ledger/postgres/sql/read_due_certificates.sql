-- Reads which certificates must be looked at anew at a time (outlook_due_at), and where the clock stands before one
-- that was seen also those that were looked at since then (sequential; primary key).
SELECT uuid_send(map_key) || uuid_send(rest)
FROM (
    (SELECT map_key FROM outlook WHERE due_at <= %(now)s ORDER BY due_at LIMIT %(limit)s)
    UNION
    (SELECT map_key FROM outlook WHERE %(early)s AND holds_from > %(now)s LIMIT %(limit)s)
) AS due
JOIN certificate USING (map_key)
