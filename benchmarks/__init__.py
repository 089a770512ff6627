"""Measured against what people would use instead: `uv run inv bench.all`.

Each module is one benchmark: `run()` gives its rows. Nodes are real OpenSSH servers on loopback,
each with processes and a home of its own, as the tests have them; `big` is `inv maintain.big`.
"""

# Name -> module, in the order in which they run.
NAMES = {
    "list": "listing",
    "trips": "trips",
    "preflight": "preflight",
    "models": "models",
    "server": "server",
    "notice": "notice",
    "interrupts": "interrupts",
    "logs": "following",
    "tail": "tail",
    "watch": "watching",
    "growth": "growth",
    "flood": "flood",
    "standins": "standins",
}
