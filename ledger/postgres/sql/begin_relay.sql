-- Lets a relay stand at the beginning unless it stands somewhere (primary key).
INSERT INTO relay (name, position)
VALUES (%(name)s, 0)
ON CONFLICT (name) DO NOTHING
