-- Reads some certificates in the order of their map keys, which is no order (primary key).
SELECT uuid_send(map_key) || uuid_send(rest)
FROM certificate
ORDER BY map_key
LIMIT %(limit)s
