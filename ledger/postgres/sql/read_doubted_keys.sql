-- Reads the records of doubted keys (primary key, then each key's data).
SELECT data, log_index
FROM registry_record
WHERE name >= 'key/' AND name < 'key0' AND position('"doubted_from":'::bytea IN data) > 0
