-- Reads notices of ends from a number on (primary key).
SELECT number, map_key, notice
FROM expiry_notice
WHERE number >= %(begin)s
ORDER BY number
LIMIT %(limit)s
