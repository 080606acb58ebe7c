-- Answers over HTTP and on the command line: read everything but the ledger's secrets.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
REVOKE SELECT ON blinding_secret, status_secret FROM {role};
