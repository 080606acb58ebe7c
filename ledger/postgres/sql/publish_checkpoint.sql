-- Marks a checkpoint as published.
UPDATE checkpoint
SET published_at = microseconds_now()
WHERE size = %(size)s AND published_at IS NULL
