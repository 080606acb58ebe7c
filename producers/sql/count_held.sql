-- Counts the rows that can be no event and those behind them (indexes outbox_held, outbox_waiting).
SELECT
    (SELECT count(*) FROM certledger.outbox WHERE event_id IS NULL AND outcome IS NOT NULL),
    (SELECT count(*) FROM certledger.outbox WHERE waits_for IS NOT NULL)
