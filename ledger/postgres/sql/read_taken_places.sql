-- Reads which places of one status list are taken (unique key).
SELECT idx
FROM status_place
WHERE list = %(list)s
