-- Keeps a signed checkpoint; signing the same size again gives the same bytes.
INSERT INTO checkpoint (size, note)
VALUES (%(size)s, %(note)s)
ON CONFLICT (size) DO NOTHING
