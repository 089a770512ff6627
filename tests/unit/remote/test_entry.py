"""A rank's entry, with MLX's own group: what it marks, how it ends, what the server then sees."""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from conftest import DEADLINE, ROOT, free_ports, wait_for

from tasks.cluster.config.hostfile import Host
from tasks.cluster.facts.server import marks
from tasks.cluster.facts.server.marks import Joined, Marks
from tasks.cluster.http.api import Api
from tasks.cluster.http.orders import Orders
from tasks.cluster.ssh.node import Node

ENTRY = ROOT / "tasks" / "remote" / "entry.py"


@dataclass
class Ranks:
    """Starts ranks of modules that are in `folder`; what is left of them at the end is killed."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def module(self, name: str, text: str) -> None:
        (self.folder / f"{name}.py").write_text(text)

    def start(
        self, rank: int, size: int, *words: str, python: str = sys.executable,
        options: tuple[str, ...] = (), env: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (), **given: Any,
    ) -> subprocess.Popen[str]:  # fmt: skip
        """Start a rank by the entry; `given` are its settings where a test has others."""
        values = {"marks": self.marks_file(rank), "backend": "ring", "size": size, "limit": 60}
        own = {f"MLX_TP_ENTRY_{key.upper()}": str(v) for key, v in {**values, **given}.items()}
        line = [python, *options, str(ENTRY), "-m", *words]
        all_env = {"MLX_RANK": str(rank), **self.ring(size), **own, **(env or {})}
        return self.run(line, all_env, pass_fds=pass_fds)

    def run(self, line: list[str], env: dict[str, str], **more: Any) -> subprocess.Popen[str]:
        self.started.append(
            subprocess.Popen(
                line, cwd=self.folder, env={**os.environ, "HF_HUB_OFFLINE": "1", **env}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
            )
        )  # fmt: skip
        return self.started[-1]

    def ring(self, size: int) -> dict[str, str]:
        path = self.folder / "ring.json"
        if not path.exists():
            first = free_ports(size)
            path.write_text(json.dumps([[f"127.0.0.1:{first + rank}"] for rank in range(size)]))
        return {"MLX_HOSTFILE": str(path)} if size > 1 else {}

    def marks_file(self, rank: int) -> Path:
        return self.folder / f"rank{rank}.marks"

    def marks(self, rank: int = 0) -> Marks:
        path = self.marks_file(rank)
        return marks.parse(path.read_text() if path.exists() else "")

    def names(self, rank: int = 0) -> list[str]:
        return [line.split()[0] for line in self.marks_file(rank).read_text().splitlines()]


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[Ranks]:
    started = Ranks(tmp_path)
    yield started
    for each in started.started:
        with suppress(ProcessLookupError):
            each.kill()
        each.communicate()


@pytest.fixture(scope="module")
def entry() -> ModuleType:
    spec = importlib.util.spec_from_file_location("entry", ENTRY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE)
    return process.returncode, out, err


GROUP = """
import sys
import mlx.core as mx
for more in ({}, {"backend": "ring"}, {"strict": True, "backend": "any"}):
    group = mx.distributed.init(**more)
    print(group.rank(), group.size(), mx.distributed.all_sum(mx.ones(1), group=group).item())
sys.exit(3)
"""


def test_ranks_meet_and_the_server_gets_their_group(ranks: Ranks) -> None:
    ranks.module("server", GROUP)
    processes = [ranks.start(rank, 2, "server") for rank in (0, 1)]
    for rank, process in enumerate(processes):
        assert ended(process) == (3, f"{rank} 2 2.0\n" * 3, "")
        assert ranks.names(rank) == ["importing", "meeting", "joined", "left"]
        found = ranks.marks(rank)
        assert found.importing is not None
        assert (found.importing.pid, found.importing.stacks) == (process.pid, "SIGURG")
        assert found.left is not None
        assert found.left.status == 3
        assert isinstance(found.joined, Joined)
        assert (found.joined.rank, found.joined.size, found.joined.backend) == (rank, 2, "ring")
        assert found.joined.versions.keys() == {"mlx", "mlx-lm", "python"}


SEEN = """
import json, multiprocessing, os, pickle, sys

class Thing:
    def __eq__(self, other):
        return type(self) is type(other)

def doubled(number):
    return number * 2

if __name__ == "__main__":
    main = sys.modules["__main__"]
    doubles = None
    if not __file__.endswith("__main__.py"):  # which multiprocessing does not import again
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            doubles = pool.map(doubled, [1, 2])
    print(json.dumps([
        sys.argv, sys.orig_argv, sys.path, __name__, __file__, __spec__.name, __package__, doubles,
        main.__dict__ is globals(), pickle.loads(pickle.dumps(Thing())) == Thing(),
        sorted(name for name in dir(main) if not name.startswith("__")),
        sorted(name for name in os.environ if name.startswith("MLX_TP")),
    ]))
"""


@pytest.mark.parametrize(
    ("module", "options"),
    [("server", ()), ("package", ("-E",)), ("package.part", ()), ("server", ("-I",))],
)
def test_the_module_is_what_python_m_would_make_of_it(
    ranks: Ranks, module: str, options: tuple[str, ...]
) -> None:
    """Words, path, `__main__`, pickles of its classes, processes that multiprocessing spawns."""
    (ranks.folder / "package").mkdir()
    for name in ("server", "package/__init__", "package/__main__", "package/part"):
        ranks.module(name, SEEN)
    words = (module, "--model", "a b", "-x", "")
    plain = ended(ranks.run([sys.executable, *options, "-m", *words], {}))
    mine = ended(ranks.start(0, 1, *words, options=options))
    assert mine == plain
    assert mine[0] == ("-I" in options)  # which looks for no module in this folder


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        ({"backend": "jaccl"}, marks.NO_BACKEND, "has no backend jaccl"),
        ({"backend": "jaccl-ring"}, marks.NO_BACKEND, "has no backend jaccl"),
        ({"env": {"MLX_HOSTFILE": "/nowhere"}}, marks.NOT_JOINED, "could not join the ranks over"),
    ],
)
def test_a_world_that_can_not_be_joined(
    ranks: Ranks, given: dict[str, Any], status: int, says: str
) -> None:
    ranks.module("server", "print('serving')")
    code, out, err = ended(ranks.start(0, 2, "server", **given))
    assert (code, out) == (status, "")
    assert says in err
    assert len(err.splitlines()) == 1
    assert ranks.names() == ["importing", "meeting"]


def test_a_world_of_another_size(ranks: Ranks) -> None:
    ranks.module("server", "print('serving')")
    ranks.ring(2)
    for rank, process in enumerate([ranks.start(rank, 3, "server") for rank in (0, 1)]):
        says = f"this is rank {rank} of 2, not {rank} of 3 as asked\n"
        assert ended(process) == (marks.WRONG_WORLD, "", says)
        assert ranks.names(rank) == ["importing", "meeting"]


def test_a_peer_of_another_run(ranks: Ranks) -> None:
    """MLX itself takes whoever comes to its port for a rank."""
    ranks.module("server", "print('serving')")
    runs = [{"MLX_TP_RANK_OF": f"run{rank}.{rank}"} for rank in (0, 1)]
    started = [ranks.start(rank, 2, "server", env=env) for rank, env in enumerate(runs)]
    for rank, each in enumerate(started):
        says = f"rank {1 - rank} here is of another run, which has the same ports\n"
        assert ended(each) == (marks.WRONG_WORLD, "", says)
        assert ranks.names(rank) == ["importing", "meeting"]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_peer_that_never_comes(ranks: Ranks, rank: int) -> None:
    ranks.module("server", "print('serving')")
    code, out, err = ended(ranks.start(rank, 2, "server", limit=0.5))
    assert (code, out) == (1, "")
    assert err.startswith("Timeout (0:00:00.5")
    assert "in meet" in err
    assert ranks.names(rank) == ["importing", "meeting"]


def test_stacks_are_told_while_it_waits_and_it_still_joins(ranks: Ranks) -> None:
    ranks.module("server", GROUP)
    first = ranks.start(0, 2, "server")
    wait_for(lambda: ranks.marks().meeting)
    stacks = ranks.marks().importing
    assert stacks is not None
    time.sleep(0.2)  # so that it waits inside MLX
    os.kill(first.pid, signal.Signals[stacks.stacks])
    second = ranks.start(1, 2, "server")
    assert ended(second) == (3, "1 2 2.0\n" * 3, "")
    code, _, err = ended(first)
    assert code == 3
    assert "in meet" in err


def test_a_rank_that_waits_can_be_interrupted(ranks: Ranks) -> None:
    ranks.module("server", "print('serving')")
    process = ranks.start(0, 2, "server")
    wait_for(lambda: ranks.marks().meeting)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert ended(process) == (-signal.SIGINT, "", "")


SERVES = "import signal, sys, time\n{}\nopen('up', 'w')\nwhile True: time.sleep(0.05)\n"


@pytest.mark.parametrize(
    ("text", "sent", "status", "left"),
    [
        (SERVES.format(""), signal.SIGINT, -signal.SIGINT, 130),
        (SERVES.format(""), signal.SIGTERM, -signal.SIGTERM, None),
        (SERVES.format("signal.signal(15, lambda *_: sys.exit())"), signal.SIGTERM, 0, 0),
        ("import sys; sys.exit('no port')", None, 1, 1),
        ("pass", None, 0, 0),
        ("1 / 0", None, 1, None),
        ("import threading, os\nthreading.Timer(0.2, os._exit, [7]).start()", None, 7, None),
    ],
)
def test_how_it_left(
    ranks: Ranks, text: str, sent: signal.Signals | None, status: int, left: int | None
) -> None:
    """Marked is an end in order, and only once the server's threads are done."""
    ranks.module("server", text)
    process = ranks.start(0, 1, "server")
    if sent is not None:
        wait_for((ranks.folder / "up").exists)
        process.send_signal(sent)
    assert ended(process)[0] == status
    found = ranks.marks().left
    assert (found and found.status) == left


def test_no_such_module_is_told_before_ranks_meet(ranks: Ranks) -> None:
    code, out, err = ended(ranks.start(0, 2, "nowhere.server"))
    assert (code, out, err) == (1, "", f"{sys.executable}: No module named nowhere.server\n")


def test_a_server_outlives_a_full_disk(ranks: Ranks) -> None:
    ranks.module("server", "print('serving')")
    code, out, err = ended(ranks.start(0, 1, "server", marks="/dev/full"))
    assert (code, out) == (0, "serving\n")
    assert "can't write the mark importing: [Errno 28]" in err


READS = """
import sys, time
import mlx.core as mx
weights, read = mx.load(sys.argv[1] + "/model.safetensors"), 0
with open("truth", "w", buffering=1) as truth:
    for name, each in weights.items():
        mx.eval(each)
        read += each.nbytes
        truth.write(f"{time.time()} {read}\\n")
        time.sleep(0.15)
    time.sleep(1)
"""


def test_progress_is_within_ten_points_of_the_truth(ranks: Ranks) -> None:
    """Held against what a rank had read by its own account, each time that it was marked."""
    import mlx.core as mx

    whole = 20 << 20
    matrices = {f"layers.{i}.w": mx.zeros((1 << 20,), dtype=mx.uint8) for i in range(20)}
    mx.save_safetensors(str(ranks.folder / "model.safetensors"), matrices)
    ranks.module("server", READS)
    assert ended(ranks.start(0, 1, "server", str(ranks.folder), model=ranks.folder))[0] == 0
    lines = ranks.marks_file(0).read_text().splitlines()
    told = [marks.parse(line + "\n").loading for line in lines if line.startswith("loading")]
    truth = [line.split() for line in (ranks.folder / "truth").read_text().splitlines()]
    assert len(told) >= 3
    for each in told:
        assert each is not None
        assert each.of == whole
        before = max((int(read) for at, read in truth if float(at) <= each.at), default=0)
        assert abs(each.bytes - before) < whole / 10
    read = [each.bytes for each in told if each is not None]
    assert read == sorted(set(read))
    assert read[-1] >= whole * 9 // 10  # it has ended before more was told


def test_bytes_of_weights(entry: ModuleType, tmp_path: Path, monkeypatch: Any) -> None:
    """All of them, and what a rank keeps: its part of the layers, the rest whole."""
    header = {
        "__metadata__": {"format": "mlx"},
        "model.embed_tokens.weight": {"dtype": "U8", "shape": [100], "data_offsets": [0, 100]},
        "model.layers.0.mlp.up_proj.weight": {"dtype": "U8", "data_offsets": [100, 500]},
    }
    text = json.dumps(header).encode()
    snapshot = tmp_path / "hub" / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model-1.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    (snapshot / "adapter.safetensors").write_bytes(b"\0")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert entry.folder("org/name") == str(snapshot)
    assert entry.folder(str(tmp_path)) == str(tmp_path)
    assert entry.weigh(str(snapshot), 2) == (500, 300)
    assert entry.weigh(str(snapshot), 4) == (500, 200)


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1", b"", b"\0" * 9])
def test_weights_that_can_not_be_weighed(entry: ModuleType, tmp_path: Path, content: bytes) -> None:
    """The server itself says what is wrong: nothing is told, and nothing raised, beside it."""
    (tmp_path / "model.safetensors").write_bytes(content)
    assert entry.tell_loading(None, None, str(tmp_path), 2, False) is None


def test_what_a_page_cache_hides(entry: ModuleType) -> None:
    assert entry.progress(900, 1000) == 900  # MLX holds what is still to be read
    assert entry.progress(0, 1000) == 1000
    assert entry.progress(400, 0) == 400  # nothing is known of memory


def test_a_trickle_is_no_progress(entry: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux counts what comes from sockets too: requests kept a failed load going for ever."""
    now = [0.0]
    marked: list[Any] = []
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda s: now.append(now.pop() + s))
    monkeypatch.setattr(entry, "time", clock)

    def told(*reads: int) -> list[int]:
        marked.clear()
        some = itertools.chain(reads, itertools.count(reads[-1] + 118, 118))
        entry.follow(lambda: next(some), lambda _, **v: marked.append(v["bytes"]), 10**9)
        return list(marked)

    assert told(0, 400_000_000, 900_000_000) == [400_000_000, 900_000_000]
    # A fiftieth at once, less after a second; the last of it is told, little as it is.
    assert told(500_000_000, *[510_000_000] * 7, 999_999_999, 10**9) == [
        500_000_000, 510_000_000, 999_999_999, 10**9,
    ]  # fmt: skip


class Memory:
    """MLX's count of its memory, by turns."""

    def __init__(self, *held: int) -> None:
        self.held = iter(held)

    def get_active_memory(self) -> int:
        return next(self.held)


@pytest.mark.parametrize(
    ("size", "pipeline", "disk", "told"),
    [
        (2, False, [0, 0, 0, 0, 0], [250, 483, 500]),  # 300 of 500 are kept
        (2, False, [90, 300, 290, 400, 600], [210, 310, 500]),  # what was read before is not of it
        (2, True, [0, 0, 0, 0, 0], [150, 290, 300]),
        (1, False, [0, 0, 125, 400, 500], [125, 400, 500]),
    ],
)
def test_progress_on_macos(
    entry: ModuleType, monkeypatch: pytest.MonkeyPatch,
    size: int, pipeline: bool, disk: list[int], told: list[int],
) -> None:  # fmt: skip
    """What disks have given, or what MLX holds where a cache gave the rest; it never falls."""
    marked: list[tuple[int, int]] = []
    read = iter(disk)
    monkeypatch.setattr(entry, "LINUX", False)
    monkeypatch.setattr(entry, "read_bytes", lambda: next(read))
    monkeypatch.setattr(entry, "weigh", lambda *_: (500, 300))
    monkeypatch.setattr(entry.time, "sleep", lambda _: None)
    memory = Memory(30, 150, 120, 290, 310)
    entry.tell_loading(
        memory, lambda _, **v: marked.append((v["bytes"], v["of"])), "/", size, pipeline
    )
    assert marked == [(each, 300 if pipeline else 500) for each in told]


class RusageInfo(ctypes.Structure):
    """struct rusage_info_v2 of xnu's bsd/sys/resource.h."""

    _fields_ = (
        ("ri_uuid", ctypes.c_uint8 * 16), ("ri_user_time", ctypes.c_uint64),
        ("ri_system_time", ctypes.c_uint64), ("ri_pkg_idle_wkups", ctypes.c_uint64),
        ("ri_interrupt_wkups", ctypes.c_uint64), ("ri_pageins", ctypes.c_uint64),
        ("ri_wired_size", ctypes.c_uint64), ("ri_resident_size", ctypes.c_uint64),
        ("ri_phys_footprint", ctypes.c_uint64), ("ri_proc_start_abstime", ctypes.c_uint64),
        ("ri_proc_exit_abstime", ctypes.c_uint64), ("ri_child_user_time", ctypes.c_uint64),
        ("ri_child_system_time", ctypes.c_uint64), ("ri_child_pkg_idle_wkups", ctypes.c_uint64),
        ("ri_child_interrupt_wkups", ctypes.c_uint64), ("ri_child_pageins", ctypes.c_uint64),
        ("ri_child_elapsed_abstime", ctypes.c_uint64), ("ri_diskio_bytesread", ctypes.c_uint64),
        ("ri_diskio_byteswritten", ctypes.c_uint64),
    )  # fmt: skip


@pytest.mark.parametrize(("failed", "read"), [(0, 7), (-1, 0)])
def test_bytes_from_disks_on_macos(
    entry: ModuleType, monkeypatch: pytest.MonkeyPatch, failed: int, read: int
) -> None:
    class Library:
        @staticmethod
        def proc_pid_rusage(pid: int, flavor: int, usage: Any) -> int:
            assert (pid, flavor, ctypes.sizeof(usage)) == (
                os.getpid(),
                2,
                ctypes.sizeof(RusageInfo),
            )
            RusageInfo.from_buffer(usage).ri_diskio_bytesread = 7
            return failed

    monkeypatch.setattr(entry, "LINUX", False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    assert entry.read_bytes() == read


def first_token(port: int) -> Any:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    asked = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with suppress(OSError), urllib.request.urlopen(asked, timeout=DEADLINE) as answer:
        return json.load(answer)["choices"]


def serve(ranks: Ranks, model: Path, python: str = sys.executable) -> None:
    """The real server of two ranks up to a token, and what their marks say then."""
    port = free_ports(1)
    words = ("mlx_lm", "server", "--model", str(model), "--port", str(port))
    processes = [ranks.start(r, 2, *words, python=python, model=model) for r in (0, 1)]
    wait_for(lambda: first_token(port) or any(each.poll() is not None for each in processes))
    assert [each.poll() for each in processes] == [None, None]
    as_called_directly(port, model)
    whole = wait_for(lambda: ranks.marks(0).loading and ranks.marks(1).loading)
    size = (model / "model.safetensors").stat().st_size
    assert 0 < size - whole.of < 10_000  # the header
    # So small a model may be read in part before the first look; test_progress_... tells how well.
    wait_for(lambda: all(_has_read(ranks.marks(rank)) for rank in (0, 1)))
    processes[0].send_signal(signal.SIGINT)
    processes[0].communicate(timeout=DEADLINE)
    left = ranks.marks(0).left
    assert left is not None
    assert left.status == 0


def as_called_directly(port: int, model: Path) -> None:
    """What its ranks say of given tokens, all in step, is what mlx_lm says without a server."""
    import mlx.core as mx
    from mlx_lm.utils import load_model

    orders = Orders(Api(Node(Host("127.0.0.1")), "127.0.0.1", port), "default_model", 60)
    (prompt,) = orders.encode(["Once upon a time"])
    (answer,) = orders.answer([prompt], 8)
    (rows,) = orders.score([prompt + answer], len(prompt), 5)
    (parts,) = orders.score([prompt + answer], len(prompt), 99, 3)
    logits = load_model(model)[0](mx.array([prompt + answer]))[0, len(prompt) - 1 : -1]
    nats = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    assert mx.argmax(nats, axis=-1).tolist() == answer == orders.serve(prompt, 8)
    right = [nats[at, token].item() for at, token in enumerate(answer)]
    assert [row[0] for row in rows] == pytest.approx(right, abs=1e-4)
    assert [max(row[2]) for row in rows] == pytest.approx(right, abs=1e-4)
    assert all(token in row[1] for token, row in zip(answer, rows, strict=True))
    assert right != [row[0] for row in parts] == pytest.approx(right, abs=1e-3)


def _has_read(found: Marks) -> bool:
    return found.loading is not None and 0 < found.loading.bytes <= found.loading.of


@pytest.mark.local
def test_the_real_server(ranks: Ranks, tiny: Path) -> None:
    serve(ranks, tiny)


@pytest.mark.long
@pytest.mark.parametrize(("mlx", "mlx_lm"), [("0.30.6", "0.30.7"), ("0.32.1", "0.31.3")])
def test_other_versions(ranks: Ranks, tiny: Path, tmp_path: Path, mlx: str, mlx_lm: str) -> None:
    folder = tmp_path / "venv"
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(folder)], check=True)
    python = str(folder / "bin" / "python")
    what = [f"mlx[cpu]=={mlx}", f"mlx-lm=={mlx_lm}"]
    subprocess.run([uv, "pip", "install", "-q", "-p", python, *what], check=True)
    serve(ranks, tiny, python)
    joined = ranks.marks(1).joined
    assert joined is not None
    assert (joined.versions["mlx"], joined.versions["mlx-lm"]) == (mlx, mlx_lm)
