-- Reads histories below a log index in ledger order, all keys joined (primary key of transition).
SELECT map_key, log_index, position, line_hash, data
FROM transition
WHERE map_key = ANY (ARRAY(
    SELECT substring(%(keys)s::bytea FROM at FOR 32)
    FROM generate_series(1, 32 * %(count)s, 32) AS at
)) AND log_index < %(size)s
ORDER BY map_key, ordinal
