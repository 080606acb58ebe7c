-- Moves known holders as update_bound does, by where their rows are (tid): no search by key.
UPDATE holder
SET acts = bound.acts, link = bound.link, recent = bound.recent
FROM bound
WHERE holder.ctid = bound.at AND holder.map_key = bound.map_key AND bound.piece = %(piece)s
