"""The life of a server: what it is started by, how far it is, what ends it."""
