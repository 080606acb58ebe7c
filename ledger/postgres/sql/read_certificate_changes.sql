-- Finds the last entry below a size that changed each certificate, null where none did; locks nothing (primary key of transition).
SELECT key, (SELECT max(log_index) FROM transition WHERE map_key = key AND log_index < %(size)s)
FROM (
    SELECT substring(%(keys)s::bytea FROM at FOR 32) AS key
    FROM generate_series(1, 32 * %(count)s, 32) AS at
) AS wanted
