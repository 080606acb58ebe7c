-- Streams all current states (sequential).
SELECT map_key, type_code, issuer, number, record, holder
FROM certificate
