"""Servers that people have, started with the commands that people write. These download them: so there is a target for it."""
