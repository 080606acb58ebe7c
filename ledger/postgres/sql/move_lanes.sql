-- Moves lanes behind the last bundles that a turn logged on them (primary key).
UPDATE lane
SET epoch = moved.epoch, producer = moved.producer, next_sequence = moved.next_sequence,
    previous = moved.previous, signing_time = moved.signing_time, signed_at = moved.signed_at,
    log_index = moved.log_index
FROM unnest(
    %(department)s::text[], %(lane)s::integer[], %(epoch)s::integer[], %(producer)s::text[],
    %(next_sequence)s::bigint[], %(previous)s::bytea[], %(signing_time)s::bigint[],
    %(signed_at)s::text[], %(log_index)s::bigint[]
) AS moved (
    department, lane, epoch, producer, next_sequence, previous, signing_time, signed_at, log_index
)
WHERE lane.department = moved.department AND lane.lane = moved.lane
