-- Reads what map keys are made of (primary key of certificate).
SELECT map_key, type_code, issuer, number
FROM certificate
WHERE map_key = ANY (%(keys)s::bytea[])
