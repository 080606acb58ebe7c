-- Reads current states by map key, all keys joined (primary key).
SELECT map_key, record, holder
FROM certificate
WHERE map_key = ANY (ARRAY(
    SELECT substring(%(keys)s::bytea FROM at FOR 32)
    FROM generate_series(1, 32 * %(count)s, 32) AS at
))
