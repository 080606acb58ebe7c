-- Lets one long transaction that locks nothing last as long as it takes.
SELECT set_config('transaction_timeout', '0', true),
    set_config('idle_in_transaction_session_timeout', '0', true)
