"""Work in threads that nobody waits for when the program ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import wait as _wait
from typing import Any, TypeVar

T = TypeVar("T")


def begin(work: Callable[..., T], *arguments: Any) -> Future[T]:
    """`work(*arguments)` in a thread that nobody waits for when the program ends (Ctrl-C)."""
    future: Future[T] = Future()

    def fulfil() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=fulfil, daemon=True).start()
    return future


def settle(futures: Iterable[Future[Any]], seconds: float) -> bool:
    """Wait for `futures`; whether they have ended."""
    return not _wait(list(futures), seconds).not_done
