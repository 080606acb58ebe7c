-- Moves the changed certificates to their new records (primary key, HOT).
UPDATE certificate
SET record = changed.record, holder = changed.holder
FROM changed
WHERE certificate.map_key = changed.map_key
