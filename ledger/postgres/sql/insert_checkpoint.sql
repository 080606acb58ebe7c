-- Keeps a signed checkpoint; one kept before stays, as cosignatures differ each time.
INSERT INTO checkpoint (size, note)
VALUES (%(size)s, %(note)s)
ON CONFLICT (size) DO NOTHING
