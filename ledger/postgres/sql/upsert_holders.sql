-- Writes the records of holders that are in the session's table, each there once (primary key, HOT).
INSERT INTO holder (map_key, rest, acts, link, recent)
SELECT map_key, rest, acts, link, recent FROM bound
ON CONFLICT (map_key) DO UPDATE
SET acts = excluded.acts, link = excluded.link, recent = excluded.recent
