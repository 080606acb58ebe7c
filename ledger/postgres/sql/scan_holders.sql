-- Streams all holders' records by map key (primary key).
SELECT uuid_send(map_key) || uuid_send(rest), acts, link, recent
FROM holder
ORDER BY map_key
