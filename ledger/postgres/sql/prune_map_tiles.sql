-- Drops versions of tiles that the newest published state does not need (primary key).
DELETE FROM map_tile AS old
USING map_tile AS newer
WHERE newer.kind = old.kind AND newer.level = old.level AND newer.tile_index = old.tile_index
    AND newer.log_index > old.log_index AND newer.log_index < %(size)s
