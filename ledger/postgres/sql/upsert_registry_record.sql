-- Writes one registry record's current form.
INSERT INTO registry_record (name, data, log_index)
VALUES (%(name)s, %(data)s, %(log_index)s)
ON CONFLICT (name) DO UPDATE SET data = excluded.data, log_index = excluded.log_index
