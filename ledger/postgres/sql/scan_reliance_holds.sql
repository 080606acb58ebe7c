-- Streams what reliances hold by where that began (sorts the whole table).
SELECT
    log_index, position, reliance_key, number, certificate, version, tree_size, lasts, event_id,
    end_index, end_position
FROM reliance_hold
ORDER BY log_index, position, number
