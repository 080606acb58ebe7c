-- Remembers the log topic's id before anything is written to it.
INSERT INTO log_topic (topic_id, last_offset, entries, outbox)
VALUES (%(topic_id)s, -1, 0, 0)
