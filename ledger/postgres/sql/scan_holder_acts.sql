-- Streams holders' older acts by map key (primary key).
SELECT uuid_send(map_key), ordinal, acts
FROM holder_act
ORDER BY map_key, ordinal
