"""A rank's entry: mark how far it is, meet the other ranks, then be the server's module.

`PYTHON entry.py -m MODULE WORDS...` ends up as `PYTHON -m MODULE WORDS...` would: same sys.argv,
sys.path, `__main__` (by runpy) and process. What it must know is in its environment, and is taken
out of it (a child of the server must not take itself for a rank's entry):

    MLX_TP_ENTRY_MARKS    file that marks are appended to
    MLX_TP_ENTRY_BACKEND  ring, jaccl or jaccl-ring
    MLX_TP_ENTRY_SIZE     number of ranks; which one this is stands in MLX_RANK
    MLX_TP_ENTRY_LIMIT    seconds within which all must have met
    MLX_TP_ENTRY_MODEL    folder of the weights, or a name in Hugging Face's cache; may be missing
    MLX_TP_ENTRY_NAMES    what requests may call it (JSON), the first as its id; may be missing
    MLX_TP_ENTRY_OTHERS   1 where requests may name other models, which are then loaded

A mark is a line `NAME UNIX_TIME KEY=VALUE...`, appended whole by one write(2), values without
blanks; tasks/cluster/facts/server/marks.py reads them:

    importing 1764.1 pid=12 stacks=SIGURG    from now on it has all stacks written to stderr
    meeting 1764.2 limit=60                  MLX is there, and waits for the other ranks
    joined 1764.9 rank=0 size=2 backend=ring seconds=0.7 mlx=0.32.4 python=3.11.9 mlx-lm=0.32.2
    loading 1765.9 bytes=123 of=456          each second and each fiftieth, never falling
    left 1799.0 status=0                     in order: by return, SystemExit or KeyboardInterrupt

It ends by itself with WRONG_WORLD, NO_BACKEND, NOT_JOINED or NOT_KEPT and one line on stderr, and
with 1 and all stacks where the ranks have not met in time. In between, MLX 0.32.4 holds the GIL, so
no Python thread or signal handler runs; faulthandler's are C, and restart what they interrupt
(SA_RESTART), where a handler of Python's makes MLX's accept(2) fail with EINTR ("error: 4"). SIGURG
asks for stacks since its default action is to be ignored, on macOS as on Linux (signal(3),
signal(7)): sent to a process that is not, or no longer, a rank, it ends nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import functools
import importlib
import importlib.util
import json
import os
import runpy
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, NoReturn

Mark = Callable[..., None]
LINUX = sys.platform == "linux"
PREFIX = "MLX_TP_ENTRY_"
STACKS = signal.SIGURG
WRONG_WORLD = 80  # MLX made another group than the one that was asked for
NO_BACKEND = 81  # this MLX has not got the backend
NOT_JOINED = 82  # MLX could not join the ranks, and said why
NOT_KEPT = 83  # this server can't be kept to the model that it has loaded
SERVERS = {  # where the server of a module is that is run
    "mlx_lm": "mlx_lm.server",
    "mlx_lm.server": "mlx_lm.server",
    "vllm_mlx.distributed_launcher": "vllm_mlx.server",
    "vllm_mlx.server": "vllm_mlx.server",
}
# Seconds that a ring's last rank lets the others go first: it connects first, to rank 0, and MLX
# tries again after a whole second only (mlx/distributed/ring/ring.cpp, RingGroup).
BEHIND = 0.1
QUIET = 600  # seconds without a byte after which the weights are taken for loaded


def main() -> None:
    given = taken(os.environ)
    become_module()
    faulthandler.register(STACKS, all_threads=True)
    write = functools.partial(mark, given["MARKS"])
    write("importing", pid=os.getpid(), stacks=STACKS.name)
    import mlx.core as mx

    join(mx, write, given)
    load = (mx, write, given.get("MODEL", ""), int(given["SIZE"]), "--pipeline" in sys.argv)
    threading.Thread(target=tell_loading, args=load, daemon=True).start()
    take_orders()
    serve(write, given)


def taken(environment: MutableMapping[str, str]) -> dict[str, str]:
    """What is for the entry alone, by its short name; it is gone from the environment then."""
    names = [name for name in environment if name.startswith(PREFIX)]
    return {name[len(PREFIX) :]: environment.pop(name) for name in names}


def become_module() -> None:
    """Let sys.path and the words be those of `python -m`; end where there is no such module."""
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        sys.path[0] = os.getcwd()
    sys.orig_argv.remove(sys.argv[0])
    del sys.argv[0]
    module = sys.argv[1]
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        end(1, f"{sys.executable}: No module named {module}")


def mark(path: str, name: str, **values: object) -> None:
    """Append a line of the marks file."""
    words = "".join(f" {key.replace('_', '-')}={value}" for key, value in values.items())
    line = f"{name} {time.time():.3f}{words}\n".encode()
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)
    except OSError as error:  # a full disk is no reason to end a server
        print(f"can't write the mark {name}: {error}", file=sys.stderr, flush=True)


def join(mx: Any, mark: Mark, given: dict[str, str]) -> None:
    """Meet the other ranks, see that the world is what was asked for, and mark it."""
    size, backend = int(given["SIZE"]), given["BACKEND"]
    mark("meeting", limit=given["LIMIT"])
    start = time.monotonic()
    if size > 1:  # one rank is no group, to MLX either
        meet(mx, backend, size, float(given["LIMIT"]))
    mark(
        "joined",
        rank=os.environ.get("MLX_RANK", "0"),
        size=size,
        backend=backend,
        seconds=f"{time.monotonic() - start:.2f}",
        **versions(mx),
    )


def meet(mx: Any, backend: str, size: int, limit: float) -> None:
    """Make MLX's group and check it; every later init() gives the same, of its backend or of any.

    MLX keeps groups by name, and the first that it made as "any" too (mlx/distributed/
    distributed.cpp, init).
    """
    name = backend.partition("-")[0]  # jaccl-ring is jaccl to MLX
    if not mx.distributed.is_available(name):
        end(NO_BACKEND, f"MLX {mx.__version__} of {sys.executable} has no backend {name}")
    # SIGINT ends a rank that waits: by Python's handler MLX would fail, or wait on.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    faulthandler.dump_traceback_later(limit, exit=True)
    if name == "ring" and int(os.environ["MLX_RANK"]) == size - 1:
        time.sleep(BEHIND)
    try:
        group = mx.distributed.init(strict=True, backend=name)
    except (RuntimeError, ValueError) as error:
        end(NOT_JOINED, f"MLX could not join the ranks over {backend}: {error}")
    check(mx, group, size)
    faulthandler.cancel_dump_traceback_later()
    signal.signal(signal.SIGINT, handler)


def check(mx: Any, group: Any, size: int) -> None:
    """End where the world is not what was asked for: MLX takes for a rank whoever comes to it."""
    found, wanted = (group.rank(), group.size()), (int(os.environ["MLX_RANK"]), size)
    if found != wanted:
        words = "this is rank {} of {}, not {} of {} as asked"
        end(WRONG_WORLD, words.format(*found, *wanted))
    run = os.environ.get("MLX_TP_RANK_OF", "").partition(".")[0]
    mine = zlib.crc32(run.encode())
    runs = mx.distributed.all_gather(mx.array([mine], mx.uint32), group=group, stream=mx.cpu)
    strangers = [rank for rank, each in enumerate(runs.tolist()) if each != mine]
    if strangers:
        end(WRONG_WORLD, f"rank {strangers[0]} here is of another run, which has the same ports")


def end(status: int, line: str) -> NoReturn:
    """End at once: a group's destructor may wait for ranks."""
    print(line, file=sys.stderr, flush=True)
    os._exit(status)


def versions(mx: Any) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"mlx": mx.__version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for package in ("mlx-lm", "vllm-mlx"):
        with contextlib.suppress(PackageNotFoundError):
            found[package.replace("-", "_")] = version(package)
    return found


def tell_loading(mx: Any, mark: Mark, model: str, size: int, pipeline: bool) -> None:
    """Mark each second how much of the weights this rank has read, until that is all.

    A rank of a group reads all matrices whole and keeps its part (mlx-lm 0.32.2 `sharded_load`: two
    ranks of 692 MB read 692.2 MB each and kept 352.4); with --pipeline it reads what it keeps.
    Nothing is told where the weights can't be weighed, as while they are still to be fetched.
    """
    try:
        whole, kept = weigh(folder(model), size)
    except Exception:  # what is wrong with its files the server says itself
        return
    if not kept:
        return
    of, before = kept if pipeline else whole, before_reading(mx, kept)

    def read() -> int:
        held = of * mx.get_active_memory() // kept if size > 1 and not LINUX else 0
        return progress(read_bytes() - before, held)

    follow(read, mark, of)


def follow(read: Callable[[], int], mark: Mark, of: int) -> None:
    """Mark the most that was ever read, until it is all or nothing has come for long.

    Each fiftieth, so that a short load is told too; in between each second, but not what is less
    than a thousandth: Linux counts what comes from sockets too, and a load that had failed seemed
    to go on for ever.
    """
    told, since = 0, time.monotonic()
    while told < of and time.monotonic() - since < QUIET:
        now = min(of, read())
        least = of // (50 if time.monotonic() - since < 1 else 1000)
        if now - told > least or told < now == of:
            told, since = now, time.monotonic()
            mark("loading", bytes=told, of=of)
        time.sleep(0.2)


def folder(model: str) -> str:
    """Where the weights are: the folder itself, or that of a name in Hugging Face's cache."""
    path = os.path.expanduser(model)
    if os.path.isdir(path):
        return path
    from huggingface_hub.constants import HF_HUB_CACHE

    repository = os.path.join(HF_HUB_CACHE, "models--" + model.replace("/", "--"))
    with open(os.path.join(repository, "refs", "main"), encoding="utf-8") as file:
        return os.path.join(repository, "snapshots", file.read().strip())


def weigh(folder: str, size: int) -> tuple[int, int]:
    """Bytes of all weights, and of those that one of `size` ranks keeps: a part of each layer."""
    whole = kept = 0
    for name in os.listdir(folder):
        if name.startswith("model") and name.endswith(".safetensors"):
            for tensor, length in tensors(os.path.join(folder, name)):
                whole += length
                kept += length // size if "layers." in tensor else length
    return whole, kept


def tensors(path: str) -> Iterator[tuple[str, int]]:
    """Names and bytes by the header: its length in 8 bytes, then JSON (safetensors' README)."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            yield name, end - start


def before_reading(mx: Any, kept: int) -> int:
    """Wait until MLX holds a hundredth of it, and give what was read until then: imports."""
    before = read_bytes()
    while mx.get_active_memory() < kept // 100:
        before = read_bytes()
        time.sleep(0.1)
    return before


def progress(read: int, held: int) -> int:
    """Bytes of the weights by what was `read`, or where a cache hid that by what is `held`.

    What MLX holds is the worse measure, for it allocates before it reads (mlx: backend/common/
    load.cpp): all weights at once where nothing follows, so it is not asked in a group of one;
    where slices do, ten command buffers ahead (transforms.cpp; 13 points at real size, on GPUs).
    """
    return held if 2 * read < held else read


def read_bytes() -> int:
    """What this process has read, as the kernel counts it.

    Linux: rchar, from the page cache too (MLX reads with pread(2)), so it is exact. macOS:
    ri_diskio_bytesread, from disks alone (xnu: bsd/sys/resource.h, osfmk/kern/bsd_kern.c).
    """
    if LINUX:
        try:
            with open("/proc/self/io", encoding="ascii") as file:
                return int(file.readline().split()[1])
        except OSError:  # a container without it: nothing is told of how far it is
            return 0
    usage = (ctypes.c_uint64 * 20)()  # struct rusage_info_v2: a UUID and 18 numbers
    failed = ctypes.CDLL(None).proc_pid_rusage(os.getpid(), 2, usage)
    return 0 if failed else int(usage[18])


def take_orders() -> None:
    """Let mlx_lm's server take the canary's orders, and its ranks end and refuse together."""
    if sys.argv[1:3] != ["mlx_lm", "server"]:
        return
    # What is wrong with its package the server says itself, when it is run.
    with contextlib.suppress(Exception):
        import mlx_lm.server

        beside("score").install(mlx_lm.server)
        served = beside("served")
        served.end_together(mlx_lm.server)
        served.refuse_no_tokens(mlx_lm.server)


def serve(mark: Mark, given: dict[str, str]) -> None:
    """Be the module, as `python -m` would; its orderly end is marked once its threads are done."""
    module = sys.argv.pop(1)
    status: int | None = None
    try:
        start(module, given)
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
        raise
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
        raise
    finally:
        if status is not None:
            atexit.register(mark, "left", status=status)


def start(module: str, given: dict[str, str]) -> None:
    """Run the module; rank 0's server is kept to its model (served.py), where it has names."""
    server = SERVERS.get(module, "")
    is_kept = server and given.get("NAMES") and os.environ.get("MLX_RANK", "0") == "0"
    if is_kept and (module != "mlx_lm" or sys.argv[1:2] == ["server"]):
        kept = importlib.import_module(server)
        why = beside("served").keep(kept, given["NAMES"], given.get("MODEL", ""), given)
        if why:
            words = f"{server} of {sys.executable} can't be kept to its model ({why})"
            end(NOT_KEPT, f"{words}: with entry: none in tp.engines it runs as it is")
        if module == server:  # by runpy it would be made anew, and not be kept to anything
            sys.argv[0] = str(kept.__file__)
            kept.main()
            return
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def beside(name: str) -> Any:
    """The module of that name that lies beside this file, off sys.path as this one is."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"mlx_tp_{name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
