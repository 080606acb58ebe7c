-- Reads all registry records.
SELECT name, data
FROM registry_record
