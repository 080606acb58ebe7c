-- The relay: read what leaves for Kafka, remember how far it came. No event lines, no states:
-- what recalls say of a change is in its transition.
GRANT SELECT ON
    allocation, head, entry, checkpoint, tile, lane, outbox, expiry_notice, relay, registry_record,
    reliance, reliance_hold, recall, transition
    TO {role};
GRANT INSERT, UPDATE ON relay TO {role};
