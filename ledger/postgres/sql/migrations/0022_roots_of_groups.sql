-- Beside each chunk of event lines stand the roots over each 32 of them, in the order of the lines, so that a line is
-- proven without its bundle's other lines. None beside a bundle's only chunk, nor in what was stored before: there the
-- lines are read.
-- Enough to know: migration 21.
ALTER TABLE lines ADD COLUMN groups bytea CHECK (length(groups) > 0 AND length(groups) % 32 = 0);
