-- Reads the checkpoint of one size (primary key).
SELECT note
FROM checkpoint
WHERE size = %(size)s
