-- Keeps the file of a published catalogue; what is there stays (primary key).
INSERT INTO catalogue (name, version, data)
VALUES (%(name)s, %(version)s, %(data)s)
ON CONFLICT (name, version) DO NOTHING
