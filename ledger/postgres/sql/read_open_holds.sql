-- Reads what some reliances hold, all keys joined (index reliance_hold_open).
SELECT
    reliance_key, certificate, event_id, number, version, tree_size, lasts, log_index, position
FROM reliance_hold
WHERE end_index IS NULL AND reliance_key = ANY (ARRAY(
    SELECT substring(%(keys)s::bytea FROM at FOR 32)
    FROM generate_series(1, 32 * %(count)s, 32) AS at
))
