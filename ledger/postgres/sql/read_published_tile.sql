-- Reads the first bytes of a tile if the published tree has them, null if it is lost; locks nothing (primary keys).
SELECT substring(tile.data FOR %(length)s)
FROM (
    SELECT size FROM checkpoint WHERE published_at IS NOT NULL ORDER BY size DESC LIMIT 1
) AS published
LEFT JOIN tile ON tile.level = %(level)s AND tile.tile_index = %(index)s
WHERE published.size >= %(needed)s
