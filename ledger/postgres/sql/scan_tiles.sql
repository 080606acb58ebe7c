-- Streams the tree's lowest tiles in order (primary key).
SELECT tile_index, data
FROM tile
WHERE level = 0
ORDER BY tile_index
