-- Keeps notices of ends, each once for ever (unique key).
INSERT INTO expiry_notice (number, map_key, version, step, notice)
SELECT *
FROM unnest(
    %(numbers)s::bigint[], %(keys)s::bytea[], %(versions)s::integer[], %(steps)s::smallint[],
    %(notices)s::bytea[]
)
