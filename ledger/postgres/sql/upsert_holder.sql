-- Writes one holder's record.
INSERT INTO holder (map_key, acts, link)
VALUES (%(key)s, %(acts)s, %(link)s)
ON CONFLICT (map_key) DO UPDATE SET acts = excluded.acts, link = excluded.link
