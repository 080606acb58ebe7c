-- Gives a row up that can be no event (for people: those that wait for it go on without it).
DELETE FROM certledger.outbox WHERE id = 17
