-- Reads the places of one status list that are not valid (sequential).
SELECT idx, status
FROM status_place
WHERE said AND list = %(list)s AND status <> 0
