-- Reads how far the log topic holds what is here.
SELECT topic_id, last_offset, entries, outbox
FROM log_topic
