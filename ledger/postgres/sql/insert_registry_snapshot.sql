-- Keeps the registry's leaves under a status entry.
INSERT INTO registry_snapshot (log_index, data)
VALUES (%(log_index)s, %(data)s)
