-- Reads when certificates are looked at anew (primary key).
SELECT uuid_send(map_key), holds_from, due_at, said
FROM outlook
ORDER BY map_key
