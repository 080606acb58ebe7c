-- Finds what did not become an admitted event, and why (for people).
SELECT id, change_id, outcome, reason FROM certledger.outbox
WHERE outcome NOT IN ('admitted', 'repeat')
