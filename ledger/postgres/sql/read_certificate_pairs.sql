-- Reads ranges of the certificates' states as they are now; locks nothing (primary key).
SELECT uuid_send(map_key) || uuid_send(rest), state, history
FROM unnest(%(firsts)s::uuid[], %(lasts)s::uuid[]) AS wanted (first, last)
CROSS JOIN LATERAL (
    SELECT map_key, rest, state, history
    FROM certificate
    WHERE map_key BETWEEN wanted.first AND wanted.last
    ORDER BY map_key
) AS found
