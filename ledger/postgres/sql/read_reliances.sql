-- Reads some reliances, all keys joined (primary key).
SELECT reliance_key, acts, is_ended
FROM reliance
WHERE reliance_key = ANY (ARRAY(
    SELECT substring(%(keys)s::bytea FROM at FOR 32)
    FROM generate_series(1, 32 * %(count)s, 32) AS at
))
