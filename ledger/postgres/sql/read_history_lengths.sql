-- Reads how many transitions some certificates have, all keys joined (primary key of transition).
SELECT key, last.ordinal + 1
FROM unnest(ARRAY(
    SELECT substring(%(keys)s::bytea FROM at FOR 32)
    FROM generate_series(1, 32 * %(count)s, 32) AS at
)) AS key
CROSS JOIN LATERAL (
    SELECT ordinal FROM transition WHERE map_key = key ORDER BY ordinal DESC LIMIT 1
) AS last
