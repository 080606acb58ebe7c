-- Limits how long each later statement of this session may run; locks nothing.
SELECT set_config('statement_timeout', %(milliseconds)s, false)
