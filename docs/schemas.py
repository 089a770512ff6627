"""What `--json` prints, task by task: docs/generate.py writes docs/schemas/ from these tables.

In a table `text?` may be null, `{"*": X}` is an object of any names, `[X]` a list; a key with a "?"
at its end may be absent. Every document that a test reads is held against its schema
(tests/schemas.py).
"""

from __future__ import annotations

from typing import Any

WORDS = {"text": "string", "number": "number", "whole": "integer", "flag": "boolean"}
FINDING = {"check": "text", "level": "text", "node": "text", "what": "text", "fix": "text"}
ENVELOPE = {
    "ok": "flag",
    "exit": "whole",
    "error": "text?",
    "findings": [FINDING],
    "lines?": ["text"],
}
STREAMED = {"ok": "flag", "error": "text?"}
LINE = {"number": "whole", "text": "text"}
SPREAD = {"p50": "number?", "p95": "number?"}
SAMPLE = "any"  # what one request took: for whoever counts anew
VERSIONS = {"*": "text?"}

CHANGES = {"changes": [{"host": "text", "state": "text", "what": "text"}]}
PORT = {"host": "text", "interface": "text", "address": "text?"}

SYNCED = [{"host": "text", "state": "text", "what": "text"}]
STOPPED = {"nodes?": ["any"], "strangers?": ["any"]}
# Nothing of its own where --dry-run starts nothing; `cooldown` are seconds that were waited.
START = {
    "url?": "text", "model?": "text", "ranks?": "whole", "backend?": "text", "run?": "text",
    "phases?": {"*": "number"}, "first_token?": "number", "curl?": "text", "cooldown?": "number",
}  # fmt: skip
STATUS = {
    "state": "text", "why": "text", "url": "text?", "model": "text?", "engine": "text",
    "fast_synch": "text?",
    "ranks": [{"rank": "whole?", "host": "text", "pid": "whole?", "state": "text",
               "exit": "text?", "uptime": "number?", "memory": "whole?"}],
    "unreachable": {"*": "text"}, "later": {"*": ["text"]},
    "version": "text",
}  # fmt: skip

TASKS: dict[str, dict[str, Any]] = {
    "version": {"version": "text", "commit": "text?", "libraries": {"*": "text"}},
    "tp.preflight": {},
    "tp.start": START,
    "tp.restart": {**START, **STOPPED, "rows?": SYNCED},
    "tp.launch": {"run?": "text", "ranks?": "whole", "backend?": "text"},
    "tp.wait": {"url": "text", "model": "text", "first_token": "number"},
    "tp.cooldown": {"cooldown?": "number"},
    "tp.unlock": {"holder?": "text?", "unreachable?": ["text"]},
    "tp.model": {},
    "tp.health": {"url": "text", "model": "text", "first_token": "number", "curl": "text"},
    # One cluster's keys, or those of all by name (--cluster all).
    "tp.status": {**{f"{key}?": value for key, value in STATUS.items()},
                  "clusters?": {"*": STATUS}},
    "tp.stop": STOPPED,
    "tp.memory": {"nodes": {"*": {"wired": "whole?", "total": "whole?", "baseline": "whole?"}}},
    "tp.audit": {"actions": ["any"], "unreachable": {"*": "text"}},
    "tp.chat": {
        "url": "text", "model": "text?", "text": "text", "thought": "text", "finish": "text?",
        "first": "number?", "seconds": "number", "prompt_tokens": "whole?", "tokens": "whole?",
        "cached": "whole?", "pieces": "whole", "first_tokens": "whole?", "calls": ["any"],
        "speed": "number?", "piece_speed": "number?", "overall": "number?", "came_at_once": "flag",
    },
    "tp.bench": {
        "format?": "whole", "version?": "text", "label?": "text", "date?": "text",
        "model?": "text?", "engine?": "text", "backend?": "text", "fast_synch?": "text?",
        "ranks?": "whole", "run?": "text",
        "max_tokens?": "whole",
        "nodes?": ["any"],
        "rows?": [{
            "concurrency": "whole", "prompt_tokens_wanted": "whole", "prompt_tokens": "number?",
            "prompt_words": "whole", "cached_tokens": "whole", "requests": "whole",
            "errors": {"*": "whole"}, "seconds": "number", "first_token": SPREAD,
            "came_at_once": "whole", "tokens_per_second": SPREAD,
            "tokens_per_second_total": "number?", "pieces_per_second": SPREAD,
            "pieces_per_second_total": "number?", "doubt": "number?", "is_narrow": "flag",
            "repeats": [{"seconds": "number", "first_token": "number?", "total": "number?"}],
            "samples": [SAMPLE],
        }],
        "commit?": "text?", "canary?": "any",
        "runs?": ["any"],
        "compared?": [{
            "prompt_tokens": "whole", "concurrency": "whole", "run": "text", "ranks": "whole?",
            "first_token": "number?", "first_token_change": "change?", "total": "number?",
            "total_change": "change?", "is_base": "flag",
        }],
        "history?": ["any"],
    },
    "tp.explain": {
        "files": [{"file": "text", "first_error": "line?", "line": "line?", "known": "known?"}],
    },
    "hosts.list": {
        "source": "text", "backend": "text",
        "hosts": [{"rank": "text", "host": "text", "address": "text", "interfaces": "text",
                   "user": "text", "python": "text", "via": "text?"}],
        "ssh?": {"*": {"*": ["text"]}},
    },
    "hosts.check": {"versions": {"*": VERSIONS}},
    "hosts.selftest": {
        "rows": [{"what": "text", "host": "text", "state": "text", "found": "text"}],
        "saved": "text?", "version": "text",
    },
    "hosts.trust": {
        "hosts": [{"host": "text", "state": "text", "why": "text",
                   "keys": [{"kind": "text", "fingerprint": "text"}]}],
    },
    "dev.model": {"split?": "any", "context?": "whole", "verify?": {"*": {"*": "any"}}},
    "rdma.status": {},
    "rdma.ping": {},
    "rdma.verify": {"backend": "text", "ranks": ["any"], "ping_ms": {"*": "number"}},
    **{f"rdma.{name}": CHANGES for name in (
        "unbridge", "address", "devices", "setup", "persist", "unpersist", "undo")},
    "rdma.topology": {
        "hosts": ["text"],
        "cables": [{"a": PORT, "b": PORT, "speed": "number?", "state": "text"}],
    },
    "dev.sync": {"rows": SYNCED},
    "hosts.clean": CHANGES,
    "rdma.discover": {
        "cables?": ["any"], "why?": "text", "setup?": "text?", "hostfile?": "any",
        "moved?": ["text"],
    },
}  # fmt: skip
STREAMS: dict[str, dict[str, Any]] = {
    "tp.logs": {"rank": "whole?", "text": "text"},
    "dev.loop": {"time": "text", "seconds": "number", "saved": ["text"], "phases": {"*": "number"},
                 "state": "text"},
    "tp.watch": {"time": "text", "state": "text", "why": "text"},
    "tp.top": {
        "time": "text", "host": "text", "state": "text", "why?": "text", "cpu?": "number?",
        "memory?": {"total": "whole?", "used": "whole?", "wired": "whole?", "baseline": "whole?"},
        "links?": [{"name": "text", "up": "flag", "received": "number?", "sent": "number?"}],
        "ranks?": [{"rank": "whole", "pid": "whole?", "state": "text", "cpu": "number?",
                    "memory": "whole?"}],
        "clients?": "whole?", "requests?": "number?", "requests_per_second?": "number?",
    },
}  # fmt: skip
NAMED = {
    "change": {"ratio": "number", "low": "number", "high": "number", "is_noise": "flag"},
    "line": LINE,
    "known": {"id": "text", "means": "text", "first": "text", "then": "text", "versions": "text",
              "source": "text"},
}  # fmt: skip


def schemas() -> dict[str, dict[str, Any]]:
    """Task -> the JSON Schema of its document."""
    made = {name: _whole(name, table) for name, table in TASKS.items()}
    for name, table in STREAMS.items():
        row, end = _object({**STREAMED, **table}), _object(ENVELOPE)
        about = "A document per line; one that has `exit` is the last, where the task failed."
        made[name] = {**_head(name), "description": about, "anyOf": [row, end]}
    return made


def _head(name: str) -> dict[str, Any]:
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"inv {name} --json",
    }


def _whole(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """A task's own keys are there where it went well; a failure has what was found until then."""
    own = _object(table)
    whole = _object({**ENVELOPE, **{f"{key.rstrip('?')}?": value for key, value in table.items()}})
    well = {"properties": {"exit": {"const": 0}}}
    return {**_head(name), **whole, "if": well, "then": {"required": own["required"]}}


def _object(table: dict[str, Any]) -> dict[str, Any]:
    if list(table) == ["*"]:
        return {"type": "object", "additionalProperties": _schema(table["*"])}
    return {
        "type": "object",
        "properties": {key.rstrip("?"): _schema(value) for key, value in table.items()},
        "required": [key for key in table if not key.endswith("?")],
        "additionalProperties": False,
    }


def _schema(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return _object(value)
    if isinstance(value, list):
        return {"type": "array", "items": _schema(value[0])}
    word, may_be_null = value.rstrip("?"), value.endswith("?")
    if word == "any":
        return {}
    found = _object(NAMED[word]) if word in NAMED else {"type": WORDS[word]}
    return {**found, "type": [found["type"], "null"]} if may_be_null else found
