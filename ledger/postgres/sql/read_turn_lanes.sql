-- Reads the lanes of a turn's bundles (primary key).
SELECT department, lane, epoch, producer, next_sequence, previous, signing_time, signed_at,
       log_index
FROM lane
JOIN unnest(%(departments)s::text[], %(lanes)s::integer[]) AS asked (department, lane)
    USING (department, lane)
