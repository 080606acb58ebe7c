-- Reads the event ids in some certificates' histories (primary key of transition).
SELECT map_key, event_id, line_hash
FROM transition
WHERE map_key = ANY (ARRAY(
    SELECT substring(%(keys)s::bytea FROM at FOR 32)
    FROM generate_series(1, 32 * %(count)s, 32) AS at
))
