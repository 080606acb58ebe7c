-- Finds certificates by hashes of their numbers (certificate_number); another number may have the same hash.
SELECT number_hash, uuid_send(map_key) || uuid_send(rest), type_code, issuer, state, history
FROM certificate
JOIN certificate_kind ON certificate_kind.number = certificate.kind
WHERE number_hash = ANY (%(hashes)s)
    AND (%(type_code)s::text IS NULL OR type_code = %(type_code)s)
    AND (%(issuer)s::text IS NULL OR issuer = %(issuer)s)
