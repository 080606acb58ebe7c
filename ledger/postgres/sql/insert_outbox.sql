-- Queues what is said about a record that was not logged.
INSERT INTO outbox (
    number, outcome, topic_id, partition, record_offset, code, message, log_index,
    key, notice, record
)
VALUES (
    %(number)s, %(outcome)s, %(topic_id)s, %(partition)s, %(record_offset)s, %(code)s,
    %(message)s, %(log_index)s, %(key)s, %(notice)s, %(record)s
)
