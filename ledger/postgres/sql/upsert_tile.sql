-- Writes a tile's whole new contents; only the last tile of a level ever changes.
INSERT INTO tile (level, tile_index, data)
VALUES (%(level)s, %(index)s, %(data)s)
ON CONFLICT (level, tile_index) DO UPDATE SET data = excluded.data
WHERE length(tile.data) < length(excluded.data)
