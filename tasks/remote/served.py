"""Keeps a server to the model that it has loaded: rank 0's entry (entry.py) changes it by this.

mlx_lm.server loads what a request names (0.32.2). What only rank 0 finds by that name, as its own
id, a path of rank 0's, the other ranks can't load, and all wait for each other for ever
(mlx-lm#1748). vllm-mlx answers by its one model whatever it is called, but for embeddings.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

TOGETHER = 16  # tokens after which ranks ask each other
LARGEST = 2**31 - 1  # of a slice of MLX's, and more than any penalty or temperature
LIMITS = {"seed": (0, 2**64 - 1), "xtc_threshold": (0, 0.5)}


class Served:
    """What requests may call the model; `name` is its id. Other models where `others` is set."""

    def __init__(self, names: list[str], model: str, others: bool = False) -> None:
        path = os.path.expanduser(model)
        self.name, self.others = names[0], others
        self.names = frozenset([*names, model, path, os.path.realpath(path)])

    def refused(self, name: object) -> str:
        """Why a request that names this gets no answer; "" where it does."""
        if name in self.names or self.others:
            return ""
        return f"the model {name!r} is not served here, nor was it loaded: ask for {self.name!r}"


def keep(server: Any, names: str, model: str, given: Mapping[str, str]) -> str:
    """Keep the imported module `server` to its model; why it can't be, "" where it is.

    `names` is a list in JSON, `model` the folder or name that the server is given.
    """
    served = Served(json.loads(names), model, given.get("OTHERS") == "1")
    change = keep_mlx_lm if server.__name__ == "mlx_lm.server" else keep_vllm_mlx
    try:
        change(server, served)
    except AttributeError as error:
        return str(error)
    return ""


def keep_mlx_lm(server: Any, served: Served) -> None:
    """Change mlx_lm.server, 0.30.6 (the first with ranks) to 0.32.2, before ranks share a request.

    A request that names what is loaded is one for "default_model", so that all of them are served
    in one batch.
    """
    generator, handler = server.ResponseGenerator, server.APIHandler
    generate, single = generator.generate, generator._serve_single
    complete, client = handler.handle_completion, threading.local()

    def generate_loaded(self: Any, request: Any, args: Any, *more: Any, **given: Any) -> Any:
        asked, loaded = args.model, self.cli_args
        if why := served.refused(asked.model):
            raise ValueError(why)  # which it answers with 404
        if not served.others:
            check_part("adapter", asked.adapter, loaded.adapter_path)
            check_part("draft model", asked.draft, loaded.draft_model)
            args.model = server.ModelDescription("default_model", "default_model", None)
        elif asked.model in served.names:
            asked.model = "default_model"
        check_request(request, args, loaded_by(self))
        context, answer = generate(self, request, args, *more, **given)
        return context, while_asked(answer, client.connection)

    def handle_completion(self: Any, *given: Any) -> Any:
        client.connection = self.connection  # of this thread
        return complete(self, *given)

    def serve_single(self: Any, request: Any, *more: Any) -> Any:
        """Serve on though the client has gone: rank 0 alone would leave, and all hang."""
        queue, *rest = request
        server.is_alone_for = None
        if self._is_distributed:
            queue = server.is_alone_for = Unstoppable(queue)
        return single(self, (queue, *rest), *more)

    def list_served(self: Any) -> None:
        entry = {"id": served.name, "object": "model", "created": self.created}
        asked = urllib.parse.unquote(self.path.partition("?")[0].partition("/v1/models/")[2])
        is_known = not asked or asked in served.names
        found = {"object": "list", "data": [entry]} if not asked else entry
        self._set_completion_headers(200 if is_known else 404)
        self.end_headers()
        told = found if is_known else {"error": served.refused(asked)}
        self.wfile.write(json.dumps(told).encode())

    _ = handler.handle_models_request
    generator.generate, generator._serve_single = generate_loaded, serve_single
    handler.handle_completion, handler.handle_models_request = handle_completion, list_served
    answer_unreadable(handler)


def answer_unreadable(handler: Any) -> None:
    """Answer 400 to what can't be read, where mlx_lm.server (0.32.2) drops the connection."""
    post, complete = handler.do_POST, handler.handle_completion

    def do_post(self: Any) -> None:
        self.is_read = False
        try:
            post(self)
        except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
            if self.is_read:  # its answer may have begun
                raise
            self._set_completion_headers(400)
            self.end_headers()
            self.wfile.write(json.dumps({"error": f"it can't be read: {error}"}).encode())

    def handle_completion(self: Any, *given: Any) -> Any:
        self.is_read, options = True, self.stream_options
        if not isinstance(options, dict) or "include_usage" not in options:
            self.stream_options = None  # its stream would break off before the end
        return complete(self, *given)

    handler.do_POST, handler.handle_completion = do_post, handle_completion


def while_asked(answer: Iterator[Any], connection: socket.socket) -> Iterator[Any]:
    """Give an answer while there is a client: who has gone would keep the ranks from others.

    mlx_lm.server itself sees that as it writes, so not before the end of what is not streamed.
    """
    for piece in answer:
        if select.select([connection], [], [], 0)[0] and has_ended(connection):
            return
        yield piece


def has_ended(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def loaded_by(generator: Any) -> Any:
    """What provides the model, once that is loaded."""
    provider = generator.model_provider
    while provider.tokenizer is None and generator._generation_thread.is_alive():
        time.sleep(0.1)
    if provider.tokenizer is None:
        raise RuntimeError("the model could not be loaded")
    return provider


def check_request(request: Any, args: Any, provider: Any) -> None:
    """Raise ValueError for what ends the ranks (0.32.2), or occupies them for good.

    Tokens that there are not lead out of an array, which ends a rank by a signal; the others end
    its generation.
    """
    tokens = provider.tokenizer.get_vocab().values() if args.logits.logit_bias else ()
    wrong = {*(args.logits.logit_bias or ())}.difference(tokens)
    if wrong:
        raise ValueError(f"logit_bias: there is no token {min(wrong)}")
    words = args.stop_words
    if not isinstance(words, list) or not all(map(is_text, words)):
        raise ValueError("stop: give a text, or a list of texts")
    if request.request_type == "text" and not isinstance(request.prompt, str):
        raise ValueError("prompt: give one text")
    if args.sampling.top_k >= provider.tokenizer.vocab_size:
        args.sampling.top_k = 0  # of all
    pickle.dumps((request, args))  # as rank 0 does for the others: it fails for too deep a JSON
    check_numbers({"seed": args.seed, **vars(args.sampling), **vars(args.logits)})
    most = getattr(getattr(provider.model, "args", None), "max_position_embeddings", None)
    if isinstance(most, int):
        args.max_tokens = min(args.max_tokens, most)


def is_text(word: object) -> bool:
    """Whether it is text that a tokenizer takes: JSON may hold half a character ("\\ud83d")."""
    return isinstance(word, str) and not any("\ud800" <= each <= "\udfff" for each in word)


def check_numbers(given: Mapping[str, object]) -> None:
    """Raise ValueError for a number that MLX or mlx_lm does not take, as NaN or a huge one."""
    for name, value in given.items():
        limit = LIMITS.get(name, (-LARGEST, LARGEST))
        if isinstance(value, (int, float)) and not limit[0] <= value <= limit[1]:
            raise ValueError(f"{name}: give a number from {limit[0]:g} to {limit[1]:g}")


def check_part(what: str, asked: object, loaded: object) -> None:
    """Raise ValueError where a request names an adapter or draft model that is not loaded."""
    if asked not in (None, "default_model", loaded):
        raise ValueError(f"the {what} {asked!r} is not loaded: start the server with it")


class Unstoppable:
    """The queue of a request whose context can't be stopped by rank 0 alone."""

    def __init__(self, queue: Any) -> None:
        self.queue, self.has_gone = queue, False

    def put(self, item: Any) -> None:
        if hasattr(item, "stop"):
            item.stop = self.leave
        self.queue.put(item)

    def leave(self) -> None:
        self.has_gone = True


def end_together(server: Any) -> None:
    """Let all ranks end what is served alone (with a seed) once rank 0's client has gone.

    Requests of a batch mlx_lm.server ends so itself (0.32.2). The sum is made in the stream of the
    model's own sums, so that these come in the same order on all ranks.
    """
    generate = server.stream_generate

    def generate_together(*given: Any, **more: Any) -> Iterator[Any]:
        import mlx.core as mx

        alone = mx.distributed.init().size() == 1 or "stream" not in more  # before 0.31
        for count, step in enumerate(generate(*given, **more), 1):
            yield step
            if alone or count % TOGETHER:
                continue
            gone = getattr(getattr(server, "is_alone_for", None), "has_gone", False)
            with mx.stream(more["stream"]):
                if mx.distributed.all_sum(mx.array(int(gone))).item():
                    return

    server.stream_generate = generate_together


def refuse_no_tokens(server: Any) -> None:
    """Let all ranks refuse a prompt that is no list of tokens, or has none (0.32.2).

    What a request's own chat template makes is known only then, and would end their generation.
    """
    tokenize = server.ResponseGenerator._tokenize

    def tokenize_checked(*given: Any) -> Any:
        made = tokenize(*given)
        tokens = made[0] if isinstance(made, tuple) else made  # before 0.31 it is the prompt alone
        if not isinstance(tokens, list) or not tokens:
            raise ValueError("nothing is left of the prompt, or it is no list of tokens")
        return made

    server.ResponseGenerator._tokenize = tokenize_checked


def keep_vllm_mlx(server: Any, served: Served) -> None:
    """Change vllm_mlx.server: its id, and what of its pages is asked of another model.

    A model for embeddings that it was started with is served as well, by its own name.
    """
    words = [word for at, word in enumerate(sys.argv) if sys.argv[at - 1] == "--embedding-model"]
    served.names = served.names.union(words)
    info = server.ModelInfo
    server.ModelInfo = lambda id, **more: info(id=served.name, **more)
    server.app.add_middleware(OnlyServed, served=served)


class OnlyServed:
    """ASGI: answer 404 to a request whose JSON names a model that is not served."""

    def __init__(self, app: Any, served: Served) -> None:
        self.app, self.served = app, served

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        parts = [await receive()]
        while parts[-1].get("more_body"):
            parts.append(await receive())
        if why := self.refused(b"".join(part.get("body", b"") for part in parts)):
            body = json.dumps({"error": {"message": why, "code": "model_not_found"}}).encode()
            kind = (b"content-type", b"application/json")
            await send({"type": "http.response.start", "status": 404, "headers": [kind]})
            await send({"type": "http.response.body", "body": body})
            return
        parts.reverse()

        async def again() -> Any:
            return parts.pop() if parts else await receive()

        await self.app(scope, again, send)

    def refused(self, body: bytes) -> str:
        try:
            asked = json.loads(body)["model"]
        except (ValueError, LookupError, TypeError):
            return ""
        return self.served.refused(asked)
