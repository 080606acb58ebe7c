-- Streams the acts of reliances in log order (sorts the whole table).
SELECT log_index, position, reliance_key, ordinal, event_id, line_hash
FROM reliance_act
ORDER BY log_index, position
