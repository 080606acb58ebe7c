-- Reads when certificates are looked at anew (primary key).
SELECT map_key, holds_from, due_at
FROM outlook
ORDER BY map_key
