-- Marks rows as taken to be published (primary key).
UPDATE certledger.outbox
SET event_id = taken.event_id, held_key = NULL, reason = NULL, answered_at = NULL
FROM unnest(%(ids)s::bigint[], %(events)s::text[]) AS taken (id, event_id)
WHERE outbox.id = taken.id
