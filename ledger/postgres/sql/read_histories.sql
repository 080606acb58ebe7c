-- Reads the histories of some certificates in ledger order, all keys joined (primary key).
SELECT map_key, data
FROM transition
WHERE map_key = ANY (ARRAY(
    SELECT substring(%(keys)s::bytea FROM at FOR 32)
    FROM generate_series(1, 32 * %(count)s, 32) AS at
))
ORDER BY map_key, ordinal
