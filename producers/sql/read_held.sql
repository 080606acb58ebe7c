-- Finds the rows that can be no event among those of some certificates (index outbox_held).
SELECT held_key, min(id)
FROM certledger.outbox
WHERE held_key = ANY(%(keys)s) AND event_id IS NULL AND outcome IS NOT NULL
GROUP BY held_key
