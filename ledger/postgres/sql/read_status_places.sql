-- Reads the places of certificates in status lists by the first 16 bytes of their map keys, all joined (primary key).
SELECT uuid_send(map_key), version, list, idx, status
FROM status_place
WHERE map_key = ANY (ARRAY(
    SELECT encode(substring(%(heads)s::bytea FROM at FOR 16), 'hex')::uuid
    FROM generate_series(1, 16 * %(count)s, 16) AS at
))
