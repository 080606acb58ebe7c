-- Reads the parts of map keys of certificates, all keys joined; locks nothing (primary key).
SELECT map_key, type_code, issuer, number
FROM certificate
WHERE map_key = ANY (ARRAY(
    SELECT substring(%(keys)s::bytea FROM at FOR 32)
    FROM generate_series(1, 32 * %(count)s, 32) AS at
))
