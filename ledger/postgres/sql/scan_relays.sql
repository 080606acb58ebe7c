-- Reads how far the relays have come.
SELECT name, position
FROM relay
ORDER BY name
