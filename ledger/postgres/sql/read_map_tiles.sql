-- Reads all tiles of a status map as of a status entry; locks nothing (primary key).
SELECT DISTINCT ON (level, tile_index) level, tile_index, data
FROM map_tile
WHERE kind = %(kind)s AND log_index <= %(log_index)s
ORDER BY level, tile_index, log_index DESC
