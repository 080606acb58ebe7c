-- Lets rows wait for earlier ones of their certificates (primary key).
UPDATE certledger.outbox SET waits_for = waiting.held
FROM unnest(%(ids)s::bigint[], %(held)s::bigint[]) AS waiting (id, held)
WHERE outbox.id = waiting.id
