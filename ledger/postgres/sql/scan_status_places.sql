-- Reads all places in status lists by certificate (primary key).
SELECT uuid_send(map_key), version, list, idx, status
FROM status_place
ORDER BY status_place.map_key, version
