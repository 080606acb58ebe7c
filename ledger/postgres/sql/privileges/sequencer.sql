-- The sequencer: append status entries, grow tiles, move the tree head, keep and publish checkpoints.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
REVOKE SELECT ON status_secret FROM {role};
GRANT INSERT ON entry, status TO {role};
GRANT INSERT, UPDATE ON tile TO {role};
GRANT INSERT, DELETE ON registry_snapshot, map_tile TO {role};
GRANT INSERT, UPDATE, DELETE ON witness TO {role};
GRANT INSERT, UPDATE ON log_topic TO {role};
GRANT INSERT ON checkpoint TO {role};
GRANT UPDATE (note, published_at) ON checkpoint TO {role};
GRANT UPDATE (size, root) ON head TO {role};
GRANT UPDATE (next_index, ledger_time, registry_index, next_outbox) ON allocation TO {role};
