-- Reads the places of one status list that are not valid (status_place_said).
SELECT idx, status
FROM status_place
WHERE list = %(list)s AND status <> 0
