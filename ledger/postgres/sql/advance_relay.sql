-- Moves a relay on by compare-and-swap; locks its row (primary key).
UPDATE relay
SET position = %(position)s
WHERE name = %(name)s AND position = %(was)s
