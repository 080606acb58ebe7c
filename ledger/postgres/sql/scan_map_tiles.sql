-- Streams the stored tiles of the status maps in log order (sorts the whole table).
SELECT log_index, kind, level, tile_index, data
FROM map_tile
ORDER BY log_index
