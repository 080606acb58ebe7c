-- Marks a checkpoint as published, with the witnesses' signatures behind the ledger's own.
UPDATE checkpoint
SET published_at = microseconds_now(), note = coalesce(%(note)s, note)
WHERE size = %(size)s AND published_at IS NULL
