"""The departments' room: sign, bundle, spool and publish events; import registers; simulate."""
