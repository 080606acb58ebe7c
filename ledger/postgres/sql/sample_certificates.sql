-- Reads some certificates in the order of their map keys, which is no order (primary key).
SELECT map_key, type_code, issuer, number
FROM certificate
ORDER BY map_key
LIMIT %(limit)s
