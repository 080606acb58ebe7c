-- Reads one tile (primary key).
SELECT data
FROM tile
WHERE level = %(level)s AND tile_index = %(index)s
