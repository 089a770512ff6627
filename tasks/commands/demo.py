"""What inv demo does: a server is started, asked, shown and stopped, as a user would do it."""

import re
import socket
import time
from importlib.util import cache_from_source, find_spec
from pathlib import Path

from invoke.context import Context
from invoke.tasks import Task

from ..cli import executor, options, screen
from ..cluster.config.settings import DEFAULTS
from ..cluster.errors import ActionFailed
from ..cluster.http.api import Api, ApiError
from ..session import Body, running
from .dev.tiny_model import PATH


def run(c: Context, start: Task[Body], status: Task[Body], stop: Task[Body]) -> None:
    """Run these tasks with their hooks, and ask the server between them."""
    c.config.tp = _settings(8000 if _is_free(8000) else _any_free())
    screen.say("$ inv tp.start")
    if not _is_compiled():
        screen.say("the first run takes some 30 s longer: Python compiles MLX's modules meanwhile")
    try:
        executor.run(c.config, start)
        if c.config.run.dry:
            return
        ask(Api.of(options.build(c)), "Hello, who are you?")
        screen.say("$ inv tp.status")
        executor.run(c.config, status)
    finally:
        # One that was refused has started nothing: what runs is another demo's.
        if c.config.run.dry or _has_started():
            screen.say("$ inv tp.stop")
            executor.run(c.config, stop)
        else:
            screen.say("left by an earlier demo? inv tp.stop --cluster demo --hosts 127.0.0.1")


def _has_started() -> bool:
    """Whether this command has begun to start ranks: it notes the run before the first one."""
    session = running()
    return session is not None and "MLX_TP_RUN" in session.noted


def _is_compiled() -> bool:
    """Whether Python has kept what it made of mlx-lm's server: uv installs sources alone."""
    found = find_spec("mlx_lm")
    server = Path(found.origin).with_name("server.py") if found and found.origin else None
    return server is None or Path(cache_from_source(str(server))).exists()


def _settings(port: int) -> dict[str, object]:
    """A cluster of its own, whatever is configured: no other server is looked at or stopped."""
    process = rf"-m mlx_lm server --port {port} .*{re.escape(str(PATH))}( |$)"
    return {
        **DEFAULTS["tp"],
        "args": ["--port", str(port)],
        "starting_port": _any_free(),
        "cluster": "demo",
        "engines": {"mlx-lm": {"process": process}},
    }


def ask(api: Api, prompt: str) -> None:
    """One chat completion: the answer and tokens per second."""
    screen.out(f"> {prompt}")
    start = time.monotonic()
    try:
        data = api.chat("default_model", prompt, max_tokens=48, temperature=1.0)
    except ApiError as error:
        raise ActionFailed(f"chat: {error}") from None
    seconds = time.monotonic() - start
    text = data["choices"][0]["message"]["content"]
    tokens = data["usage"]["completion_tokens"]
    screen.out(repr(text))
    screen.out(
        f"{tokens} tokens, {tokens / seconds:.1f} tokens/s (random weights: nonsense is right)"
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _any_free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
