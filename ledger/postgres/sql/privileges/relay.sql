-- The relay: read what leaves for Kafka, remember how far it came. No event lines, no states.
GRANT SELECT ON
    allocation, head, entry, checkpoint, tile, lane, outbox, expiry_notice, relay, registry_record,
    reliance, reliance_hold, recall, migration
    TO {role};
GRANT INSERT, UPDATE ON relay TO {role};
