-- Reads a range of the holders' records as they are now; locks nothing (primary key).
SELECT uuid_send(map_key) || uuid_send(rest), acts, link, recent
FROM holder
WHERE map_key BETWEEN encode(%(first)s, 'hex')::uuid AND encode(%(last)s, 'hex')::uuid
ORDER BY map_key
