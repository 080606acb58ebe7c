-- All pairs of the holders' map as it is now, for COPY; locks nothing (sequential).
SELECT map_key, sha256(%(tag)s || int8send(acts) || link) FROM holder
