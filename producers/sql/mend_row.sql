-- Mends a row that can be no event (for people: its event comes before those that wait for it).
UPDATE certledger.outbox SET valid_until = '2030-12-31', outcome = NULL WHERE id = 17
