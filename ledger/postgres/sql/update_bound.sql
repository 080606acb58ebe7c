-- Moves the known holders whose record changes to their new one (primary key, HOT).
UPDATE holder
SET acts = bound.acts, link = bound.link, recent = bound.recent
FROM bound
WHERE holder.map_key = bound.map_key
