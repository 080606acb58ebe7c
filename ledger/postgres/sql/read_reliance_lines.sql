-- Reads where the admitted lines about reliances stand below a size (sorts the whole table).
SELECT log_index, position, line_hash
FROM reliance_act
WHERE log_index < %(size)s
ORDER BY log_index, position
