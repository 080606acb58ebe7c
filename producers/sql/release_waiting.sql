-- Lets go of rows that wait for one that was mended or is gone (index outbox_waiting).
UPDATE certledger.outbox AS waiting SET waits_for = NULL
WHERE waits_for IS NOT NULL AND NOT EXISTS (
    SELECT FROM certledger.outbox AS held
    WHERE held.id = waiting.waits_for AND held.event_id IS NULL AND held.outcome IS NOT NULL
)
