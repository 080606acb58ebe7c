-- Workers and registry changes: append what was admitted, move states, lanes, offsets and the turn.
GRANT TEMPORARY ON DATABASE {database} TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
REVOKE SELECT ON status_secret FROM {role};
GRANT INSERT ON
    entry, lines, signer, delta, certificate_kind, holder_act, lane_note, equivocation, accounting,
    outbox, catalogue, reliance_act, reliance_hold, recall
    TO {role};
GRANT INSERT, UPDATE ON certificate, holder, lane, intake, registry_record, tally, reliance TO {role};
GRANT UPDATE (end_index, end_position) ON reliance_hold TO {role};
GRANT UPDATE (next_index, ledger_time, registry_index, next_outbox) ON allocation TO {role};
