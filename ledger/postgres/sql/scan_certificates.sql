-- Streams all current states (sequential).
SELECT uuid_send(map_key) || uuid_send(rest), kind, number_hash, state, history
FROM certificate
