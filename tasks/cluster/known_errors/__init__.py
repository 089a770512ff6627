"""Known errors of the field: errors.toml, what reads it, and how a log is searched for them."""
