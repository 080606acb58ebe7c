-- Streams all transitions in log order (sorts the whole table).
SELECT log_index, position, map_key, ordinal, event_id, line_hash, data
FROM transition
ORDER BY log_index, position, ordinal, map_key
