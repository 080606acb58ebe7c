-- Reads which ends of certificates were announced (unique key of expiry_notice).
SELECT map_key, version, step
FROM expiry_notice
WHERE map_key = ANY (%(keys)s::bytea[])
