"""What keeps a server to its model: by names, before anything is shared or loaded."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def served() -> ModuleType:
    path = ROOT / "tasks" / "remote" / "served.py"
    spec = importlib.util.spec_from_file_location("served", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names(served: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever leads to the folder is one of its names, on rank 0's node."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / "M")
    made = served.Served(["M", "default"], "~/link")
    for name in ("M", "default", "~/link", f"{tmp_path}/link", f"{tmp_path}/M"):
        assert made.refused(name) == ""
    for other in ("m", "N", "", None, 5, f"{tmp_path}/N"):
        assert made.refused(other).endswith("ask for 'M'")
    assert served.Served(["M"], "~/link", others=True).refused("N") == ""


class Vllm:
    """What of vllm_mlx.server is changed (tried with develop e01f24f, two ranks)."""

    __name__ = "vllm_mlx.server"

    def __init__(self) -> None:
        self.app = SimpleNamespace(add_middleware=self.add)
        self.ModelInfo = dict

    def add(self, kind: Any, **more: Any) -> None:
        self.asgi = kind(self.answer, **more)

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        parts = [await receive()]
        while parts[-1].get("more_body"):
            parts.append(await receive())
        body = b"".join(each.get("body", b"") for each in parts)
        await send({"status": 200, "body": body, "after": (await receive())["type"]})


def asked(server: Vllm, *body: bytes, method: str = "POST", kind: str = "http") -> Any:
    """What is sent back, for a body in these parts; then the client goes."""
    parts = [
        {"type": "http.request", "body": each, "more_body": n < len(body)}
        for n, each in enumerate(body, 1)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return parts.pop(0) if parts else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(server.asgi({"type": kind, "method": method}, receive, send))
    return sent


def test_vllm_mlx(served: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["server", "--embedding-model", "org/e"])
    server = Vllm()
    assert served.keep(server, '["M", "default"]', "~/M", {}) == ""
    assert server.ModelInfo(id="/Users/a/M", owned_by="x") == {"id": "M", "owned_by": "x"}
    for name in ("M", "default", "org/e"):
        whole = json.dumps({"model": name}).encode()
        for parts in ((whole,), (whole[:3], whole[3:])):
            (answer,) = asked(server, *parts)
            assert answer == {"status": 200, "body": whole, "after": "http.disconnect"}
    start, body = asked(server, b'{"model": "N"}')
    assert start["status"] == 404
    assert json.loads(body["body"])["error"]["message"].endswith("ask for 'M'")
    # What names none, or is no JSON, is the server's own to judge.
    for other in (b"", b"[]", b"5", b'{"x": 1}', b"\xff", b"not json"):
        assert asked(server, other)[0]["status"] == 200
    assert asked(server, b'{"model": "N"}', method="GET")[0]["status"] == 200


def test_a_server_that_is_made_otherwise(served: ModuleType) -> None:
    """Of a version to come: it is told, and nothing runs that is not kept to its model."""
    server = SimpleNamespace(__name__="mlx_lm.server", ResponseGenerator=object)
    why = served.keep(server, '["M"]', "M", {})
    assert "no attribute" in why


class Model(list[Any]):
    def __init__(self, *parts: Any) -> None:
        super().__init__(parts)

    model = property(lambda self: self[0], lambda self, value: self.__setitem__(0, value))
    draft = property(lambda self: self[1])
    adapter = property(lambda self: self[2])


@pytest.mark.parametrize("others", [False, True])
def test_parts_of_a_model(served: ModuleType, others: bool) -> None:
    """An adapter or draft model that is not loaded: refused, or, where that is allowed, passed."""
    given: list[Any] = []

    class Generator:
        cli_args = SimpleNamespace(adapter_path=None, draft_model="d")
        model_provider = SimpleNamespace(
            tokenizer=SimpleNamespace(vocab_size=9),
            model=SimpleNamespace(args=SimpleNamespace(max_position_embeddings=100)),
        )
        _generation_thread = None

        def generate(self, request: Any, args: Any) -> tuple[None, list[Any]]:
            given.append((*args.model, args.sampling.top_k, args.max_tokens))
            return None, []

        def _serve_single(self, request: Any) -> None: ...

    class Handler:
        connection = stream_options = None
        handle_models_request = None
        do_POST = None  # noqa: N815

        def handle_completion(self, request: Any, args: Any) -> None:
            Generator().generate(request, args)

    server = SimpleNamespace(
        __name__="mlx_lm.server",
        ResponseGenerator=Generator,
        APIHandler=Handler,
        ModelDescription=Model,
    )
    assert served.keep(server, '["M"]', "/x/M", {"OTHERS": "1"} if others else {}) == ""

    def ask(*names: Any) -> None:
        args = SimpleNamespace(
            model=Model(*names), logits=SimpleNamespace(logit_bias=None), stop_words=[],
            sampling=SimpleNamespace(top_k=9), max_tokens=10**30, seed=None,
        )  # fmt: skip
        Handler().handle_completion(SimpleNamespace(request_type="chat"), args)

    ask("M", "default_model", None)
    ask("/x/M", "d", None)
    if others:
        ask("N", "e", "a")
        assert given == [
            ("default_model", "default_model", None, 0, 100),
            ("default_model", "d", None, 0, 100),
            ("N", "e", "a", 0, 100),
        ]
        return
    for names in (("N", None, None), ("M", "e", None), ("M", ["e"], None), ("M", None, "a")):
        with pytest.raises(ValueError, match=r"is not (served|loaded)"):
            ask(*names)
    assert given == [("default_model", "default_model", None, 0, 100)] * 2


def test_what_is_served_alone_ends_on_all_ranks(
    served: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 knows that its client has gone; the others only by what all ranks sum up."""
    import mlx.core as mx

    said: list[int] = []

    def all_sum(mine: Any) -> Any:
        said.append(mine.item())
        return mine

    monkeypatch.setattr(mx.distributed, "init", lambda: SimpleNamespace(size=lambda: 2))
    monkeypatch.setattr(mx.distributed, "all_sum", all_sum)
    server = SimpleNamespace(stream_generate=lambda count, **_: iter(range(count)))
    served.end_together(server)
    answer = server.stream_generate(100, stream=mx.cpu)
    assert [next(answer) for _ in range(20)] == [*range(20)]
    server.is_alone_for = queue = served.Unstoppable(queue=SimpleNamespace(put=lambda item: item))
    context = SimpleNamespace(stop=None)
    queue.put(context)
    context.stop()
    assert [*answer] == [*range(20, 32)]
    assert said == [0, 1]
    assert len([*server.stream_generate(100)]) == 100  # of an older one, whose stream is not told


@pytest.mark.parametrize(
    ("word", "is_text"),
    [("", True), ("ü\x00😀", True), ("\ud83d", False), ("a\udfff", False), (5, False), ([], False)],
)
def test_what_a_tokenizer_takes(served: ModuleType, word: object, is_text: bool) -> None:
    assert served.is_text(word) is is_text


@pytest.mark.parametrize(
    ("name", "value", "is_taken"),
    [
        ("seed", 2**64 - 1, True),
        ("seed", -1, False),
        ("seed", 2**64, False),
        ("xtc_threshold", 0.5, True),
        ("xtc_threshold", 0.9, False),
        ("min_p", float("nan"), False),
        ("temperature", float("inf"), False),
        ("temperature", 10**400, False),
        ("presence_penalty", -(10**400), False),
        ("presence_penalty", -2, True),
        ("repetition_context_size", 2**40, False),
        ("logit_bias", {1: 5.0}, True),
        ("logit_bias", None, True),
    ],
)
def test_numbers(served: ModuleType, name: str, value: object, is_taken: bool) -> None:
    if is_taken:
        served.check_numbers({name: value})
        return
    with pytest.raises(ValueError, match=f"{name}: give a number from"):
        served.check_numbers({name: value})


@pytest.mark.parametrize(
    ("made", "is_taken"),
    [([1], True), (([1], [[1]]), True), ([], False), (([],), False), ("a", False)],
)
def test_no_tokens(served: ModuleType, made: object, is_taken: bool) -> None:
    generator = type("Generator", (), {"_tokenize": lambda self, request: made})
    served.refuse_no_tokens(SimpleNamespace(ResponseGenerator=generator))
    if is_taken:
        assert generator()._tokenize(None) == made
        return
    with pytest.raises(ValueError, match="nothing is left"):
        generator()._tokenize(None)


def test_what_can_not_be_read(served: ModuleType) -> None:
    """It has an answer, if none has begun; options of a stream that say nothing are none."""
    said: list[Any] = []

    class Handler:
        wfile = SimpleNamespace(write=lambda body: said.append(json.loads(body)))
        stream_options: object = {}

        def do_POST(self) -> None:  # noqa: N802
            if self.stream_options != {}:
                self.handle_completion()
            raise TypeError("no float")

        def handle_completion(self) -> None:
            said.append(self.stream_options)

        def _set_completion_headers(self, status: int) -> None:
            said.append(status)

        def end_headers(self) -> None: ...

    served.answer_unreadable(Handler)
    Handler().do_POST()
    assert said == [400, {"error": "it can't be read: no float"}]
    for options, kept in (({"include_usage": False},) * 2, (5, None), ({"x": 1}, None)):
        said.clear()
        asked = Handler()
        asked.stream_options = options
        with pytest.raises(TypeError):
            asked.do_POST()
        assert said == [kept]


def test_too_deep_for_the_ranks(served: ModuleType) -> None:
    """Rank 0 alone would fail at it, and the others wait for ever."""
    deep: list[Any] = []
    for _ in range(10**5):
        deep = [deep]
    args = SimpleNamespace(
        logits=SimpleNamespace(logit_bias=None), sampling=SimpleNamespace(top_k=0), stop_words=[]
    )
    provider = SimpleNamespace(tokenizer=SimpleNamespace(vocab_size=9))
    with pytest.raises(RecursionError):
        served.check_request(SimpleNamespace(request_type="chat", messages=deep), args, provider)
