-- Reads all tiles above the lowest: one for 65,536 entries (primary key).
SELECT level, tile_index, data
FROM tile
WHERE level > 0
ORDER BY level, tile_index
