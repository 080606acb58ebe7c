-- Finds certificates by hashes of their numbers (certificate_number); another number may have the same hash.
SELECT number_hash, kind, uuid_send(map_key) || uuid_send(rest), state, history
FROM certificate
WHERE number_hash = ANY (%(hashes)s)
