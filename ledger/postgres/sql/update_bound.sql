-- Moves the known holders whose record a piece changes again to their new one (primary key, HOT).
UPDATE holder
SET acts = bound.acts, link = bound.link, recent = bound.recent
FROM bound
WHERE holder.map_key = bound.map_key AND bound.at IS NULL AND bound.piece = %(piece)s
