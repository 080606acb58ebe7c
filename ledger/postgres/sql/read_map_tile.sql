-- Reads one tile of a status map as of a status entry; locks nothing (primary key).
SELECT data
FROM map_tile
WHERE kind = %(kind)s AND level = %(level)s AND tile_index = %(index)s AND log_index <= %(log_index)s
ORDER BY log_index DESC
LIMIT 1
