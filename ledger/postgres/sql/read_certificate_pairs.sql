-- Reads a range of the certificates' states as they are now; locks nothing (primary key).
SELECT uuid_send(map_key) || uuid_send(rest), state, history
FROM certificate
WHERE map_key BETWEEN encode(%(first)s, 'hex')::uuid AND encode(%(last)s, 'hex')::uuid
ORDER BY map_key
