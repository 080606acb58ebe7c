-- Lets rows that were taken and never spooled be taken again (index outbox_open).
UPDATE certledger.outbox SET event_id = NULL
WHERE event_id IS NOT NULL AND outcome IS NULL
