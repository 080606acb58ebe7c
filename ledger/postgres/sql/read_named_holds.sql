-- Reads what reliances hold of certificates, both keys joined, pair by pair (primary key).
SELECT
    hold.reliance_key, hold.certificate, hold.event_id, hold.number, hold.version, hold.tree_size,
    hold.lasts, hold.log_index, hold.position
FROM generate_series(1, 64 * %(count)s, 64) AS at
CROSS JOIN LATERAL (
    SELECT *
    FROM reliance_hold
    WHERE
        certificate = substring(%(keys)s::bytea FROM at FOR 32)
        AND reliance_key = substring(%(keys)s::bytea FROM at + 32 FOR 32)
        AND end_index IS NULL
    LIMIT 1
) AS hold
