"""Measured against what people would use instead: `uv run inv bench.all`.

Each module is one benchmark: `run()` gives its rows. Nodes are real OpenSSH servers on loopback,
each with processes and a home of its own, as the tests have them.
"""

NAMES = {"list": "listing"}
