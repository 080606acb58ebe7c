-- Reads which places of one status list are taken (sequential).
SELECT idx
FROM status_place
WHERE list = %(list)s
