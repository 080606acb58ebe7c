-- Writes the records of holders that are in the session's table, each there once (primary key).
INSERT INTO holder (map_key, acts, link)
SELECT map_key, acts, link FROM bound
ON CONFLICT (map_key) DO UPDATE SET acts = excluded.acts, link = excluded.link
