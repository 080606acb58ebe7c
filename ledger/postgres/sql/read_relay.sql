-- Reads how far a relay has come.
SELECT position
FROM relay
WHERE name = %(name)s
