-- Reads one registry record (primary key).
SELECT data
FROM registry_record
WHERE name = %(name)s
