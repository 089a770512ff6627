"""Which version of these tasks this is. What they write on a node, and is read again, says so."""

VERSION = "0.2.0.dev0"  # as in pyproject.toml
WRITER = f"mlx-tp-tasks {VERSION}"
