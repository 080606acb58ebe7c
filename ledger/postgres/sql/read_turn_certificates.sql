-- Reads current states for a turn, each with the place of its row, by the first 16 bytes of map keys, all joined (primary key).
SELECT uuid_send(map_key) || uuid_send(rest), tidsend(ctid), state, history
FROM certificate
WHERE map_key = ANY (ARRAY(
    SELECT encode(substring(%(heads)s::bytea FROM at FOR 16), 'hex')::uuid
    FROM generate_series(1, 16 * %(count)s, 16) AS at
))
