-- Says of rows that they can be no event (primary key).
UPDATE certledger.outbox
SET outcome = held.code, reason = held.reason, held_key = held.key, answered_at = now()
FROM unnest(%(ids)s::bigint[], %(codes)s::text[], %(reasons)s::text[], %(keys)s::bytea[])
    AS held (id, code, reason, key)
WHERE outbox.id = held.id
