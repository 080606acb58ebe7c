-- All current states, for COPY; locks nothing (sequential).
SELECT map_key, rest, state FROM certificate
