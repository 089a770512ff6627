"""Work in threads that nobody waits for when the program ends."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import wait as _wait
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def begin(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> Future[T]:
    """`work(*arguments, **named)` in a thread that nobody waits for at the end (Ctrl-C)."""
    future: Future[T] = Future()

    def fulfil() -> None:
        try:
            future.set_result(work(*arguments, **named))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=fulfil, daemon=True).start()
    return future


def settle(futures: Iterable[Future[Any]], seconds: float) -> bool:
    """Wait for `futures`; whether they have ended."""
    return not _wait(list(futures), seconds).not_done
