-- Ends holds that go on (primary key).
UPDATE reliance_hold AS hold
SET end_index = said.end_index, end_position = said.end_position
FROM unnest(
    %(certificates)s::bytea[], %(keys)s::bytea[], %(indexes)s::bigint[], %(positions)s::integer[],
    %(end_indexes)s::bigint[], %(end_positions)s::integer[]
) AS said (certificate, reliance_key, log_index, position, end_index, end_position)
WHERE
    hold.certificate = said.certificate
    AND hold.reliance_key = said.reliance_key
    AND hold.log_index = said.log_index
    AND hold.position = said.position
    AND hold.end_index IS NULL
