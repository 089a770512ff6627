"""What tests share: `inv` in a home of its own, free ports, real sshd on loopback."""

from __future__ import annotations

import fcntl
import gc
import getpass
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import forks
import hypothesis
import pytest
import schemas
import waits
from rig import Cable, Rig, two_nodes
from rig.fixtures import rigs as rigs
from rig.fixtures import two_macs as two_macs
from strict import pytest_sessionfinish as pytest_sessionfinish
from strict import pytest_testnodedown as pytest_testnodedown
from tiers import pytest_collection_modifyitems as pytest_collection_modifyitems
from tiers import pytest_deselected as pytest_deselected
from tiers import pytest_ignore_collect as pytest_ignore_collect
from tiers import pytest_terminal_summary as pytest_terminal_summary
from tiers import pytest_xdist_auto_num_workers as pytest_xdist_auto_num_workers
from tiers import pytest_xdist_setupnodes as pytest_xdist_setupnodes

from tasks.cluster import facts

ROOT = Path(__file__).parents[1]
# A job in the background of a shell ignores these, and so would the commands of tests.
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
# As where CI runs: what a test needs of a user's environment it says itself.
for name in ("SHELL", "TERM", "USER", "LOGNAME", "EDITOR", "PAGER", "COLUMNS", "LINES"):
    os.environ.pop(name, None)
# Nothing is timed in tests: neither an example, nor how long it takes to make one. In CI as well
# examples are random, and one that failed is printed, kept, and the first to be tried again; there
# are as many as hypothesis has by default there, and fewer where somebody waits for them.
hypothesis.settings.register_profile(
    "untimed",
    hypothesis.settings.get_profile("default"),
    max_examples=100 if os.environ.get("MLX_TP_REQUIRE_ALL") else 30,
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("untimed")
DEADLINE = 180  # seconds: no command of a test takes longer, on a busy machine too
AS_NOBODY = ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
# With a port (0: any) it is a server that is none of an engine's.
LISTENS = (
    "use IO::Socket::INET; "
    "IO::Socket::INET->new(LocalPort => shift, Listen => 5, ReuseAddr => 1) && sleep 600"
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays, so nothing looks for garbage in it: else a fifth of each worker's
    time to collect, and again and again while the tests run.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def require(present: object, reason: str) -> None:
    """Skip where something is absent, but fail where CI promises that it is there."""
    if not present:
        (pytest.fail if os.environ.get("MLX_TP_REQUIRE_ALL") else pytest.skip)(reason)


def wait_for(what: Callable[[], Any], seconds: float = DEADLINE, pause: float = 0.05) -> Any:
    """Poll until `what()` is true, and give what it gave."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(pause)


def read_here(*asked: facts.Fact[Any], cwd: Path | None = None, **env: str) -> facts.NodeFacts:
    """What /bin/sh makes of these facts' commands, started in `cwd`."""
    done = subprocess.run(
        ["/bin/sh", "-s"],
        input=facts.script(asked, "n0nce"),
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={**os.environ, **env},
        timeout=DEADLINE,
    )
    return facts.read(asked, done.stdout, "n0nce", "n")


# Below 32768: above it the kernel hands out ports to clients, ours among them. Each worker has
# blocks of its own, since what one has found free another may take before it is used.
_BLOCK = 16
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_blocks = itertools.cycle(range(10000 + _BLOCK * _WORKER, 32000, _BLOCK * _WORKERS))
for _ in range(os.getpid() * 11 % 1300):
    next(_blocks)


def free_ports(count: int) -> int:
    """The first of `count` (at most 16) free ports in a row."""
    for first in itertools.islice(_blocks, 1300):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for index, each in enumerate(sockets):
                each.bind(("127.0.0.1", first + index))
            return first
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
    raise AssertionError("no free ports")


@dataclass
class Done:
    """A finished `inv`: its exit status and what it wrote."""

    code: int
    out: str
    err: str
    words: tuple[str, ...] = ()

    def one_line(self) -> str:
        """The error, which must be one line and no traceback."""
        assert "Traceback" not in self.err, self.err
        # How long something took is not what is tested.
        waits = re.compile(r"waiting for .*, \d+ s$")
        lines = [each for each in self.err.splitlines() if each.strip() and not waits.search(each)]
        assert len(lines) == 1, self.err
        return lines[0]

    def json(self) -> Any:
        """The document that `--json` printed, which is as the task's schema has it."""
        return schemas.check(self.words, json.loads(self.out))

    def documents(self) -> list[Any]:
        """Those that a task printed line by line, each as its schema has it."""
        return schemas.check_lines(self.words, self.out)


@dataclass
class Inv:
    """Runs `inv` as a user would, in a home of its own; `port` is its server's HTTP port.

    `inside`: nsenter --target PID --net, where it runs in a network of its own.
    """

    home: Path
    port: int
    ring: int
    cwd: Path = ROOT
    env: dict[str, str] = field(default_factory=dict)
    config: Path | None = None
    inside: tuple[str, ...] = ()

    def __call__(self, *words: str, args: tuple[str, ...] | None = None, code: int = 0) -> Done:
        """Run the words, with server arguments `args`; the exit status must be `code`."""
        done = self.run(*words, args=args)
        assert done.code == code, f"inv {words}: exit {done.code}\n{done.out}\n{done.err}"
        return done

    def run(self, *words: str, args: tuple[str, ...] | None = None) -> Done:
        process = self.start(*words, args=args)
        try:
            out, err = process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Done(process.returncode, out, err, words)

    def start(
        self, *words: str, args: tuple[str, ...] | None = None, **more: Any
    ) -> subprocess.Popen[str]:
        """The same without waiting, for tests that interrupt it."""
        line = self.line(*words, args=args)
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options: dict[str, Any] = {**pipes, "text": True, "cwd": self.cwd, **more}
        options["env"] = self.environment()
        if "preexec_fn" not in more and forks.can_run(line, options["env"], self.cwd):
            return forks.Forked(line, network=self.network, **options)
        return subprocess.Popen([*self.inside, sys.executable, "-m", "invoke", *line], **options)

    @property
    def network(self) -> Path | None:
        return Path(f"/proc/{self.inside[2]}/ns/net") if self.inside else None

    def line(self, *words: str, args: tuple[str, ...] | None = None) -> list[str]:
        config = ["-f", str(self.config)] if self.config else []
        return [*config, *words, *(["--", *args] if args is not None else [])]

    def environment(self) -> dict[str, str]:
        config = self.home / ".ssh" / "config"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("INVOKE_", "MLX_RANK"))}
        return {
            **clean,
            "HOME": str(self.home),
            "INVOKE_TP_LOG_DIR": str(self.home / "logs"),
            # ssh itself looks into the home of the user database, whatever HOME says.
            **({"INVOKE_TP_SSH_CONFIG": str(config)} if config.is_file() else {}),
            "INVOKE_TP_STARTING_PORT": str(self.ring),
            "NO_COLOR": "1",
            "HF_HUB_OFFLINE": "1",
            **self.env,
        }


@pytest.fixture
def network() -> Iterator[tuple[str, ...]]:
    """For `Inv.inside`: a network of its own, in which no other test's ranks are in the way."""
    line = ["unshare", "--net", "sh", "-c", "ip link set lo up && exec sleep 999"]
    with subprocess.Popen(line) as keeper:
        at = Path(f"/proc/{keeper.pid}/comm")
        wait_for(lambda: keeper.poll() or at.read_text() == "sleep\n")
        require(keeper.poll() is None, "needs root, for a network of its own")
        yield ("nsenter", "--target", str(keeper.pid), "--net")
        keeper.kill()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / "logs").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def inv(home: Path) -> Inv:
    """`inv` for what needs no server."""
    first = free_ports(9)
    return Inv(home, first, first + 1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's tiny model, made anew for this run: by one of its workers, for all of them."""
    from tasks.commands.dev import tiny_model

    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # it takes seconds to import what makes it
        if not (made / "config.json").exists():  # which is written last
            made.mkdir(exist_ok=True)
            tiny_model.make(made)
    folder = base / "tiny"  # of another worker's files test hosts see nothing
    shutil.copytree(made, folder)
    folder.chmod(0o755)  # for users of test hosts, too
    return folder


LOCAL = [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}] * 2  # hosts of a cluster on this machine


def hostfile(path: Path, hosts: list[dict[str, Any]], model: Path, port: int, **more: Any) -> Path:
    """A hostfile for the tiny model on a port of the test's own."""
    cluster = {
        "backend": "ring",
        "engine": "mlx-lm",
        "model": str(model),
        "args": ["--port", str(port)],
        "hosts": hosts,
        "envs": waits.envs(),
        **more,
    }
    path.write_text(json.dumps(cluster))
    return path


def own_servers(path: Path, model: Path) -> Path:
    """A configuration in which only servers of this test's model count as servers.

    A machine may well serve something else meanwhile, which a test must never stop.
    """
    engine = {"process": f"-m mlx_lm server .*{model}"}
    path.write_text(json.dumps({"tp": {"engines": {"mlx-lm": engine}}}))
    return path


def processes(home: Path) -> list[int]:
    """What runs for a test on this machine: it has the test's home in common."""
    mark = f"HOME={home}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if mark in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found


def below(pid: int) -> list[int]:
    """What a process has begun, and what these have begun: parents first."""
    family = [pid]
    for each in family:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):  # it has ended meanwhile
                family += map(int, task.read_text().split())
    return family[1:]


def clean_up(inv: Inv) -> None:
    """End what a test has left running."""
    if not Path("/proc").exists():
        inv.run("tp.unlock", "tp.stop", "--force")
    while left := processes(inv.home):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


@pytest.fixture
def served(inv: Inv, home: Path, tiny: Path) -> Iterator[Inv]:
    """`inv` whose cluster is two ranks on this machine; what a test leaves running is ended."""
    model = home / "model"
    shutil.copytree(tiny, model)
    inv.env["INVOKE_TP_HOSTFILE"] = str(hostfile(home / "hosts.json", LOCAL, model, inv.port))
    inv.config = own_servers(home / "config.json", model)
    yield inv
    clean_up(inv)


@pytest.fixture
def light(inv: Inv, home: Path) -> Iterator[Inv]:
    """The same with light ranks, where what is tested is not what a rank does."""
    hosts = light_cluster(inv, LOCAL)
    inv.env["INVOKE_TP_HOSTFILE"] = str(hosts)
    yield inv
    clean_up(inv)


def light_cluster(inv: Inv, hosts: list[dict[str, Any]], **more: Any) -> Path:
    """A hostfile for light ranks, and a configuration that knows them."""
    folder, model = inv.home / "light", inv.home / "model"
    folder.mkdir()
    folder.chmod(0o777)  # of ranks on test hosts, too
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").touch()
    program = str(ROOT / "tests" / "light_rank.py")
    engine = {
        "command": [program],
        "process": rf"{re.escape(program)} .*{re.escape(str(model))}( |$)",
        "ready": "/v1/models",
        "model": "light",
    }
    inv.config = inv.home / "config.json"
    inv.config.write_text(json.dumps({"tp": {"engines": {"light": engine}}}))
    words = {"engine": "light", "envs": [f"LIGHT_RANK={folder}"], **more}
    return hostfile(inv.home / "hosts.json", hosts, model, inv.port, **words)


@pytest.fixture
def vllm_mlx(home: Path) -> Path:
    """A folder for PYTHONPATH in which the engine vllm-mlx is tests/ring_rank.py.

    Its server has what ours changes of it (remote/served.py).
    """
    package = home / "lib" / "vllm_mlx"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(ROOT / "tests" / "ring_rank.py", package / "distributed_launcher.py")
    app = "class app:\n    def add_middleware(kind, served): pass\n"
    (package / "server.py").write_text(f"ModelInfo = dict\n{app}")
    return package.parent


@dataclass
class Sshd:
    """Real OpenSSH servers on loopback, one per node name, and a home whose ssh knows them.

    Each has processes, a boot, an address and a home of its own; the rest of the network and the
    files are this machine's.
    """

    home: Path
    names: tuple[str, ...]
    ports: dict[str, int] = field(default_factory=dict)
    ips: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def up(self) -> None:
        self.folder.mkdir(mode=0o700)
        for name in ("user", *self.names):
            key = self.folder / f"{name}.key"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        first = free_ports(len(self.names))
        self.ports = {name: first + index for index, name in enumerate(self.names)}
        first_ip = IPv4Address(f"10.198.{os.getpid() % 250}.1")
        self.ips = {name: str(first_ip + index) for index, name in enumerate(self.names)}
        for ip in self.ips.values():
            subprocess.run(["ip", "address", "replace", f"{ip}/32", "dev", "lo"], check=True)
        for name in self.names:
            self.start(name)
        (self.folder / "config").write_text("".join(map(self._entry, self.names)))
        self.trust(*self.names)

    @property
    def folder(self) -> Path:
        return self.home / ".ssh"

    def node_home(self, name: str) -> Path:
        """Where the node's user is at home: the nodes share this machine, but not this."""
        return self.home / f"node-{name}"

    def start(self, name: str, **options: str) -> None:
        self.node_home(name).mkdir(exist_ok=True)
        settings = {
            "Port": str(self.ports[name]),
            "ListenAddress": f"127.0.0.1\nListenAddress {self.ips[name]}",
            "HostKey": str(self.folder / f"{name}.key"),
            "AuthorizedKeysFile": str(self.folder / "user.key.pub"),
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "UsePAM": "no",
            "PidFile": "none",
            "SetEnv": f"HOME={self.node_home(name)} HF_HUB_OFFLINE=1",
            # Its keys cost ssh a tenth of a second of CPU for each connection.
            "KexAlgorithms": "-sntrup761*",
            "LogLevel": "VERBOSE",
            **options,
        }
        config = self.folder / f"{name}.sshd"
        config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        (self.folder / f"{name}.up").touch()
        if name not in self.processes:
            self.processes[name] = self._machine(name)
        wait_for(lambda: _listens(self.ports[name]))

    def _machine(self, name: str) -> subprocess.Popen[bytes]:
        """Processes of a node's own (a PID namespace), in which sshd may come and go."""
        Path("/run/sshd").mkdir(exist_ok=True)
        sshd = f"/usr/sbin/sshd -D -e -f {self.folder}/{name}.sshd"
        # A machine of its own is one that was booted by itself (remote/facts/identity.sh).
        boot = self.folder / f"{name}.boot"
        boot.write_text(f"{uuid.uuid4()}\n")
        own = f"mount --bind {boot} /proc/sys/kernel/random/boot_id"
        loop = f"{own}; while :; do [ -e {self.folder}/{name}.up ] && {sshd}; sleep 0.1; done"
        line = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", loop]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(line, stdout=log, stderr=log)

    def freeze(self, name: str) -> None:
        """No process of the node does anything any more, nor is there one that was just begun."""
        stopped: list[int] = []
        while (now := self._signal(name, signal.SIGSTOP)) != stopped:
            stopped = now
            time.sleep(0.01)

    def thaw(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: int) -> list[int]:
        """Send it to all of the node's processes: their pids."""
        found = below(self.processes[name].pid)
        for pid in found:
            with suppress(ProcessLookupError):  # what it did is done
                os.kill(pid, number)
        return found

    def trust(self, *names: str) -> None:
        """Write the true host keys of `names`, and of no other, to known_hosts."""
        lines = []
        for name in names:
            key = (self.folder / f"{name}.key.pub").read_text().rsplit(" ", 1)[0]
            at = f"[127.0.0.1]:{self.ports[name]},[{self.ips[name]}]:{self.ports[name]}"
            lines.append(f"{at} {key}\n")
        (self.folder / "known_hosts").write_text("".join(lines))

    def connections(self, name: str) -> int:
        """How many connections this node's sshd has accepted."""
        log = (self.folder / f"{name}.log").read_text()
        return log.count("Accepted publickey")

    def stop(self, name: str) -> None:
        (self.folder / f"{name}.up").unlink()
        subprocess.run(["pkill", "-f", f"^sshd: .*{self.folder}/{name}.sshd"], check=False)
        wait_for(lambda: not _listens(self.ports[name]))

    def down(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(DEADLINE)
        for ip in self.ips.values():
            subprocess.run(["ip", "address", "del", f"{ip}/32", "dev", "lo"], check=False)

    @property
    def hosts(self) -> list[dict[str, Any]]:
        """The nodes as a hostfile has them."""
        return [{"ssh": name, "ips": [self.ips[name]]} for name in self.names]

    def _entry(self, name: str) -> str:
        return (
            f"Host {name}\n  HostName 127.0.0.1\n  Port {self.ports[name]}\n"
            f"  User {getpass.getuser()}\n  IdentityFile {self.folder}/user.key\n"
            f"  UserKnownHostsFile {self.folder}/known_hosts\n"
        )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def sshd(home: Path) -> Iterator[Sshd]:
    """Two nodes, mac1 and mac2, behind real OpenSSH servers."""
    require(Path("/usr/sbin/sshd").exists(), "needs OpenSSH's server (apt install openssh-server)")
    require(os.getuid() == 0 and shutil.which("ip"), "needs root and iproute2: sshd on its own")
    servers = Sshd(home, ("mac1", "mac2"))
    servers.up()
    yield servers
    servers.down()


@pytest.fixture
def macs(inv: Inv, rigs: Callable[..., Rig]) -> Callable[..., Rig]:
    """`macs(count, cables, **options)`: fresh test hosts that `inv` reaches; two by default."""

    def get(count: int = 2, cables: Sequence[Cable] = tuple(two_nodes()), **options: Any) -> Rig:
        for folder in (inv.home.parent, inv.home, inv.home / "logs"):
            folder.chmod(0o777)  # the hosts' user is not root
        rig = rigs(count, cables, **options)
        inv.env["INVOKE_TP_SSH_CONFIG"] = str(rig.ssh_config)
        return rig

    return get


@pytest.fixture
def remote(inv: Inv, home: Path, tiny: Path, sshd: Sshd) -> Inv:
    """`inv` whose cluster is two ranks on two nodes behind SSH."""
    model = home / "model"
    shutil.copytree(tiny, model)
    file = hostfile(home / "hosts.json", sshd.hosts, model, inv.port, python=sys.executable)
    inv.env["INVOKE_TP_HOSTFILE"] = str(file)
    inv.config = own_servers(home / "config.json", model)
    return inv


@pytest.fixture
def light_remote(inv: Inv, sshd: Sshd) -> Inv:
    """The same with light ranks."""
    file = light_cluster(inv, sshd.hosts, python=sys.executable)
    inv.env["INVOKE_TP_HOSTFILE"] = str(file)
    return inv
