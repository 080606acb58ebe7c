-- Remembers the log topic's id before anything is written to it, anew while nothing is in it.
INSERT INTO log_topic (topic_id, last_offset, entries, outbox)
VALUES (%(topic_id)s, -1, 0, 0)
ON CONFLICT (one) DO UPDATE SET topic_id = excluded.topic_id
WHERE log_topic.last_offset = -1
