-- Forgets what a lost log topic held: everything is written again, to the one in its place.
UPDATE log_topic
SET topic_id = %(became)s, last_offset = -1, entries = 0, outbox = 0
WHERE topic_id = %(topic_id)s AND last_offset = %(offset)s
