-- Streams all acts of holders in log order (sorts the whole table).
SELECT log_index, position, map_key, ordinal, certificate, bound
FROM holder_act
ORDER BY log_index, position, bound, map_key
