-- Makes the empty tree's head at genesis.
INSERT INTO head (size, root) VALUES (0, %(root)s)
