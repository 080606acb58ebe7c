-- Writes down what became of events, once each; the rows (index outbox_open).
UPDATE certledger.outbox
SET outcome = heard.code, reason = nullif(heard.reason, ''), log_index = heard.log_index,
    log_position = heard.log_position, answered_at = now()
FROM unnest(
    %(events)s::text[], %(codes)s::text[], %(reasons)s::text[], %(indexes)s::bigint[],
    %(positions)s::integer[]
) AS heard (event_id, code, reason, log_index, log_position)
WHERE outbox.event_id = heard.event_id AND outbox.event_id IS NOT NULL AND outbox.outcome IS NULL
RETURNING outbox.id, outbox.change_id, outbox.outcome, outbox.reason
