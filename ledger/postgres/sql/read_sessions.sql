-- Counts the sessions of each of our programs in this database, by what they call themselves.
SELECT substr(application_name, length('certledger-') + 1), count(*)
FROM pg_stat_activity
WHERE datname = current_database() AND starts_with(application_name, 'certledger-')
GROUP BY application_name
