-- Reads ranges of the holders' records as they are now; locks nothing (primary key).
SELECT uuid_send(map_key) || uuid_send(rest), acts, link, recent
FROM unnest(%(firsts)s::uuid[], %(lasts)s::uuid[]) AS wanted (first, last)
CROSS JOIN LATERAL (
    SELECT map_key, rest, acts, link, recent
    FROM holder
    WHERE map_key BETWEEN wanted.first AND wanted.last
    ORDER BY map_key
) AS found
