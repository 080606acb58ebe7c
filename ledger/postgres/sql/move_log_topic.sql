-- Remembers what the log topic acknowledged.
UPDATE log_topic
SET last_offset = greatest(last_offset, %(last_offset)s), entries = %(entries)s,
    outbox = %(outbox)s
WHERE entries <= %(entries)s AND outbox <= %(outbox)s
