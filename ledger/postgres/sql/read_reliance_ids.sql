-- Reads the ids of some reliances' acts, all keys joined (primary key).
SELECT reliance_key, event_id, line_hash
FROM reliance_act
WHERE reliance_key = ANY (ARRAY(
    SELECT substring(%(keys)s::bytea FROM at FOR 32)
    FROM generate_series(1, 32 * %(count)s, 32) AS at
))
