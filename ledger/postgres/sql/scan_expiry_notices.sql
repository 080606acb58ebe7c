-- Reads all notices of ends by certificate (unique key).
SELECT map_key, number, version, step, notice
FROM expiry_notice
ORDER BY map_key, version, step
