-- Writes how reliances stand, each there once (primary key).
INSERT INTO reliance (reliance_key, office, service, case_hash, acts, is_ended)
SELECT *
FROM unnest(
    %(keys)s::bytea[], %(offices)s::text[], %(services)s::text[], %(cases)s::bytea[],
    %(acts)s::integer[], %(ended)s::boolean[]
)
ON CONFLICT (reliance_key) DO UPDATE SET acts = excluded.acts, is_ended = excluded.is_ended
