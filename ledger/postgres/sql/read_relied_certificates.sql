-- Reads on which of some certificates any case ever relied, all keys joined (primary key).
SELECT key
FROM unnest(ARRAY(
    SELECT substring(%(keys)s::bytea FROM at FOR 32)
    FROM generate_series(1, 32 * %(count)s, 32) AS at
)) AS key
WHERE EXISTS (SELECT FROM reliance_hold WHERE certificate = key)
