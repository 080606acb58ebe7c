-- Remembers how far a relay has come.
INSERT INTO relay (name, position)
VALUES (%(name)s, %(position)s)
ON CONFLICT (name) DO UPDATE SET position = excluded.position
