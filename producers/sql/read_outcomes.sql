-- Rows of events that have their outcome already (the whole table: after a lost reply alone).
SELECT id, change_id, outcome, reason FROM certledger.outbox
WHERE event_id = ANY(%(events)s::text[]) AND outcome IS NOT NULL
