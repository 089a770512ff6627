"""Secrets stay where they belong, other users steer nothing, and only known hosts are spoken to."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import layout
import pytest
import waits
from conftest import DEADLINE, Done, Inv, Sshd, require, wait_for
from rig import Rig

from tasks.cluster.config import engine
from tasks.cluster.config.hostfile import Host
from tasks.cluster.facts.links import rdma
from tasks.cluster.rdma import setup
from tasks.cluster.server import launch, log_paths, logs
from tasks.cluster.server.launch import Run
from tasks.cluster.ssh.node import Node, SshConfig

# A test looks at all processes: those of tests beside it must have secrets of their own.
SECRETS = {f"{name}_KEY": f"sk-{name.lower()}-{os.getpid()}" for name in (
    "OPTION", "HOSTFILE", "CONFIG", "ENGINE"
)}  # fmt: skip
FOUND = re.compile("|".join(SECRETS.values()).encode())


class Watch:
    """Looks at all processes of this machine (the nodes' too) again and again for a secret."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.ranks: dict[str, set[str]] = {}
        self.looks = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        wait_for(lambda: self.looks)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(DEADLINE)

    def _run(self) -> None:
        ages: dict[Path, int] = {}
        while not self._ended.wait(0.005):
            ages = {each: ages.get(each, 0) + 1 for each in Path("/proc").glob("[0-9]*")}
            # Who is young may yet become something else, or be gone soon; most others never change.
            for process in [each for each, age in ages.items() if age < 100 or age % 20 == 0]:
                with suppress(OSError):  # it is gone
                    self._look(process)
            self.looks += 1

    def _look(self, process: Path) -> None:
        # In this order: what becomes the rank in between would have its words of before.
        environ = (process / "environ").read_bytes()
        command = (process / "cmdline").read_bytes()
        is_option = f"--env=OPTION_KEY={SECRETS['OPTION_KEY']}".encode() in command
        if FOUND.search(command) and not is_option:
            self.seen.add(f"cmdline {command!r}")
        # Without words it has ended in between.
        if not FOUND.search(environ) or not command:
            return
        # Its Python becomes the rank; what a rank starts by itself is of its session.
        if b"mlx_lm" in command or b"mlx_lm" in self._leader(process):
            number = re.search(rb"MLX_RANK=(\d)", environ)
            there = {each.decode() for each in FOUND.findall(environ)}
            self.ranks.setdefault(number.group(1).decode() if number else "?", set()).update(there)
        else:
            self.seen.add(f"environ of {command!r}")

    def _leader(self, process: Path) -> bytes:
        """The command line of the leader of a process's session."""
        fields = (process / "stat").read_text().rpartition(") ")[2].split()
        return (process.with_name(fields[3]) / "cmdline").read_bytes()


def give_secrets(inv: Inv) -> None:
    """A secret each in the hostfile, in the configuration and in an engine's environment."""
    file = Path(inv.env["INVOKE_TP_HOSTFILE"])
    data = json.loads(file.read_text())
    data["envs"].append(f"HOSTFILE_KEY={SECRETS['HOSTFILE_KEY']}")
    file.write_text(json.dumps(data))
    assert inv.config is not None
    config = json.loads(inv.config.read_text())
    config["tp"]["env"] = [f"CONFIG_KEY={SECRETS['CONFIG_KEY']}"]
    config["tp"]["engines"]["mlx-lm"]["env"] = {"ENGINE_KEY": SECRETS["ENGINE_KEY"]}
    inv.config.write_text(json.dumps(config))


def make_hub(home: Path) -> None:
    """It is there on a machine with models; else a mkdir is run in the rank's environment."""
    (home / ".cache" / "huggingface" / "hub").mkdir(parents=True)


def no_secret_in(inv: Inv, *done: Done) -> None:
    """Neither in what was said, nor in any file but those in which they were given."""
    for each in done:
        assert not FOUND.search((each.out + each.err).encode())
    given = {Path(inv.env["INVOKE_TP_HOSTFILE"]), inv.config}
    for path in inv.home.rglob("*"):
        if path.is_file() and not path.is_symlink() and path not in given:
            assert not FOUND.search(path.read_bytes()), path


OPTION = f"--env=OPTION_KEY={SECRETS['OPTION_KEY']}"


def test_secrets_over_ssh(remote: Inv, sshd: Sshd) -> None:
    """From the first check to the stop, on the nodes and here, in processes, words and files."""
    give_secrets(remote)
    for name in sshd.names:
        make_hub(sshd.node_home(name))
    with Watch() as watch:
        said = [
            remote("tp.preflight", OPTION, "--json"),
            remote("tp.launch", OPTION, "--dry-run"),
            remote("-R", "tp.start", OPTION),
            remote("-e", "tp.start", OPTION),
            remote("tp.status", "--json"),
            remote("tp.health", OPTION),
            remote("tp.logs"),
            remote("tp.launch", OPTION, code=3),
            remote("tp.stop", "--json"),
        ]
    assert not watch.seen
    # An option is instead of what the configuration says.
    given = {value for name, value in SECRETS.items() if name != "CONFIG_KEY"}
    assert watch.ranks == {"0": given, "1": given}
    assert said[1].out.count("***") == 2 * (len(given) + len(waits.envs()))
    no_secret_in(remote, *said)


def test_secrets_in_the_foreground_and_in_failures(served: Inv) -> None:
    give_secrets(served)
    make_hub(served.home)
    with Watch() as watch:
        process = served.start("tp.start", "--foreground")
        assert process.stderr
        # By its own word: each look at a busy server asks it for one more token.
        said = ""
        while "\nready: " not in said and (line := process.stderr.readline()):
            said += line
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 130, said + err
        # A rank that dies says why; so does a start that is refused by its arguments.
        dies = served("tp.start", OPTION, args=("--no-such-argument",), code=4)
        cwd = served("tp.launch", OPTION, "--cwd", "/nowhere", code=4)
    assert not watch.seen
    assert SECRETS["CONFIG_KEY"] in watch.ranks["0"] & watch.ranks["1"]
    no_secret_in(served, Done(process.returncode, out, said + err), dies, cwd)


@pytest.mark.parametrize(
    "task", ["rdma.discover", "tp.preflight", "tp.start --skip-checks", "tp.stop"]
)
def test_a_wrong_secret_is_not_shown(inv: Inv, home: Path, task: str) -> None:
    """What was meant for a value, in a hostfile that is wrong or a configuration that is."""
    hosts = [{"ssh": "127.0.0.1"}]
    file = home / "hosts.json"
    inv.config = home / "config.json"
    secret = SECRETS["OPTION_KEY"]
    slips = [f"KEY: {secret}"], {"KEY": secret}, secret, [{"KEY": secret}], [f"KEY\0={secret}"]
    for envs in slips:
        file.write_text(json.dumps({"hosts": hosts, "engine": "mlx-lm", "envs": envs}))
        inv.config.write_text("{}")
        assert secret not in inv(*task.split(), "--hostfile", str(file), code=2).one_line()
        if not task.startswith("rdma"):
            inv.config.write_text(json.dumps({"tp": {"env": envs}}))
            assert secret not in inv(*task.split(), code=2).one_line()


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


def test_modes_under_any_umask(light: Inv, home: Path) -> None:
    """State and logs are for their owner alone, and so is what is put right on the way."""
    state = home / ".mlx-tp"
    state.mkdir(mode=0o777)
    state.chmod(0o777)
    (state / "rank0.json").write_text("{}")
    (state / "rank0.json").chmod(0o666)
    (state / "rank1.MLX_HOSTFILE").symlink_to(home / "elsewhere")
    light.env["INVOKE_TP_LOG_DIR"] = str(home / "new" / "logs")
    before = os.umask(0)
    try:
        light("tp.start")
        found = {".": stat.S_IMODE(state.stat().st_mode), **modes(state)}
        light("tp.stop", "--force")
    finally:
        os.umask(before)
    assert found.pop(".") == 0o700
    for mode in (found, modes(state)):
        assert {mode[each] for each in mode if (state / each).is_dir()} == {0o700}
        assert {mode[each] for each in mode if (state / each).is_file()} == {0o600}
    assert not (home / "elsewhere").exists()
    log = modes(home / "new")
    assert log == {
        "logs": 0o700,
        "logs/tp_server.rank0.log": 0o600,
        "logs/tp_server.rank1.log": 0o600,
        "logs/tp_server.log": 0o600,
        "logs/.tp_server.log.positions": 0o600,
    }


NOBODY = 65534


@pytest.mark.hosts
@pytest.mark.parametrize("kind", ["link", "dangling link", "link to a file", "another's", "file"])
def test_a_state_directory_that_is_not_ours(light: Inv, home: Path, kind: str) -> None:
    """Neither read nor written: its records would name processes to stop."""
    require(os.getuid() == 0, "needs root, to be another user too")
    state, other = home / ".mlx-tp", home / "other"
    other.mkdir(mode=0o755)
    if kind == "another's":
        state.mkdir(mode=0o777)
        os.chown(state, NOBODY, NOBODY)
    elif kind == "file":
        state.touch()
    else:
        to = {"link": other, "dangling link": home / "none", "link to a file": home / "hosts.json"}
        state.symlink_to(to[kind])
    says = ".mlx-tp is a link or not ours: remove it, or set tp.state_dir"
    assert says in light("tp.launch", code=3).one_line()
    assert says in light("tp.preflight", code=3).out
    assert says in light("tp.status", code=3).err
    assert says in light("tp.stop", code=5).out
    assert not list(other.iterdir())
    assert not (home / "none").exists()
    assert kind != "another's" or state.stat().st_uid == NOBODY


@pytest.mark.hosts
def test_records_that_another_user_laid_in_ours(light: Inv, home: Path) -> None:
    """A state directory that was open to all: what others left there counts for nothing."""
    require(os.getuid() == 0, "needs root, to be another user too")
    state = home / ".mlx-tp"
    light("tp.start")
    victim = subprocess.Popen(["sleep", "600"])
    try:
        run = layout.newest(state)
        start, boot = (run / "rank-0.pid").read_text().split("\n")[1:3]
        fields = Path(f"/proc/{victim.pid}/stat").read_text().rpartition(") ")[2].split()
        assert start != fields[19]
        record = {**layout.record(state), "rank": 8}
        other = state / "default" / "runs" / "other"
        other.mkdir()
        (other / "record.json").write_text(json.dumps({"ranks": [record]}))
        (state / "rank9.json").write_text(json.dumps({**record, "rank": 9}))
        for path in (run / "rank-7.pid", other / "rank-8.pid", state / "rank9.pid"):
            path.write_text(f"{victim.pid}\n{fields[19]}\n{boot}\n")
        for path in (run / "rank-7.pid", other, *other.iterdir(), *state.glob("rank9.*")):
            os.chown(path, NOBODY, NOBODY)
        assert [row["rank"] for row in light("tp.status", "--json").json()["ranks"]] == [0, 1]
        light("tp.stop")
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait(DEADLINE)


# What another user may have laid at a path in /tmp before us.
LINKS = ["link to a file", "dangling link", "link to a folder", "hard link"]
LAID = [*LINKS, "pipe", "folder", "file"]
VICTIM = "what was here before\n"


def lay(kind: str, path: Path, victim: Path) -> None:
    victim.write_text(VICTIM)
    if kind == "link to a file":
        path.symlink_to(victim)
    elif kind == "dangling link":
        path.symlink_to(victim.with_name("made"))
    elif kind == "link to a folder":
        path.symlink_to(victim.parent)
    elif kind == "hard link":
        path.hardlink_to(victim)
        return
    elif kind == "pipe":
        os.mkfifo(path, 0o666)
    elif kind == "folder":
        path.mkdir(mode=0o777)
    else:
        path.write_text("mine\n")
        path.chmod(0o666)
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


USER = 12345


@pytest.fixture
def sticky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder like /tmp, in which another user was before USER; USER's home is beside it."""
    require(os.getuid() == 0, "needs root, to be two other users")
    base = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    base.chmod(0o755)
    (base / "tmp").mkdir()
    (base / "tmp").chmod(0o1777)
    (base / "home").mkdir()
    os.chown(base / "home", USER, USER)
    yield base / "tmp"
    shutil.rmtree(base)


def as_user(work: Callable[[], object]) -> str:
    """What `work` raises as USER, in a process of its own; empty if it raises nothing."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        said = ""
        try:
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)
            work()
        except BaseException as error:
            said = str(getattr(error, "message", None) or repr(error))
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


def script_as_user(script: str, home: Path) -> subprocess.CompletedProcess[str]:
    line = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "/bin/sh", "-s"]
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    return subprocess.run(
        line, input=script, env=env, cwd="/", capture_output=True, text=True, timeout=DEADLINE
    )


def rank_at(sticky: Path, python: str | None = None) -> Any:
    from tasks.cluster import cluster as clusters

    home = sticky.parent / "home"
    program = home / "py"
    program.write_text("#!/bin/sh\necho a secret of the log\n")
    program.chmod(0o755)
    hosts = sticky.parent / "hosts.json"
    hosts.write_text(json.dumps([{"ssh": "mac1", "ips": ["10.0.0.1"]}]))
    config = {"engines": {"probe": {"command": ["-m", "probe"]}}, "engine": "probe"}
    return clusters.build(
        config, hostfile=str(hosts), log_dir=str(sticky), python=python or str(program)
    )


@pytest.mark.parametrize("kind", LAID)
def test_a_rank_log_that_another_user_laid(sticky: Path, kind: str) -> None:
    """On a node: nothing is written through it, nor started, and the line says what to do."""
    home, path = sticky.parent / "home", sticky / "tp_server.rank0.log"
    lay(kind, path, home / "victim")
    os.chown(home / "victim", USER, USER)
    cluster = rank_at(sticky)
    done = script_as_user(launch.background(cluster, cluster.ranks, Run("r", "me", 0.0)), home)
    assert (home / "victim").read_text() == VICTIM
    assert not (home / "made").exists()
    if kind == "hard link":
        # It is USER's own file, and so is its name: taken away, never written to.
        assert done.returncode == 0
        wait_for(lambda: "a secret" in path.read_text())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        return
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"can't write the log {path}")
    assert line.endswith(": is it another user's? choose another --log-dir")
    assert not layout.of_rank(home / layout.STATE, 0, "pid").exists()
    assert kind != "file" or path.read_text() == "mine\n"


@pytest.mark.parametrize("kind", LAID)
def test_a_place_of_an_earlier_log_that_another_user_laid(sticky: Path, kind: str) -> None:
    home, path = sticky.parent / "home", sticky / "tp_server.rank0.log"
    lay(kind, path.with_name(f"{path.name}.1"), home / "victim")
    os.chown(home / "victim", USER, USER)
    path.write_text(f"{launch.HEADER}before rank=0 host=mac1 by=me\n")
    os.chown(path, USER, USER)
    cluster = rank_at(sticky, python="/usr/bin/python3")
    done = script_as_user(launch.background(cluster, cluster.ranks, Run("r", "me", 0.0)), home)
    assert (home / "victim").read_text() == VICTIM
    assert not (home / "made").exists()
    assert not (home / path.name).exists()
    if kind == "hard link":
        # USER's own name: the log takes its place.
        assert done.returncode == 0
        assert "run=before" in path.with_name(f"{path.name}.1").read_text()
        return
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    says = f"can't keep the log {path}.1: is it another user's? choose another --log-dir"
    assert line == says
    assert "run=before" in path.read_text()
    assert not layout.of_rank(home / layout.STATE, 0, "pid").exists()


@pytest.mark.parametrize("kind", LAID)
def test_a_known_name_that_another_user_has(
    sticky: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log lies with its run, and what is at its known name in /tmp is left as it is."""
    home, path = sticky.parent / "home", sticky / "tp_server.rank0.log"
    lay(kind, path, home / "victim")
    os.chown(home / "victim", USER, USER)
    before = path.lstat().st_ino
    monkeypatch.setattr(launch, "LINKS", str(sticky))
    cluster = replace(rank_at(sticky), log_dir=None)
    done = script_as_user(launch.background(cluster, cluster.ranks, Run("r", "me", 0.0)), home)
    assert (done.returncode, done.stderr) == (0, "")
    log = layout.of_rank(home / layout.STATE, 0, "log")
    wait_for(lambda: "a secret" in log.read_text())
    assert (home / "victim").read_text() == VICTIM
    assert not (home / "made").exists()
    # A hard link is USER's own file, and so is its name.
    assert (path.lstat().st_ino == before) == (kind != "hard link")


@pytest.mark.parametrize("name", ["tp_server.log", ".tp_server.log.positions"])
@pytest.mark.parametrize("kind", LAID)
def test_a_combined_log_that_another_user_laid(sticky: Path, kind: str, name: str) -> None:
    """Here on the control machine, in a place that all may write to."""
    home = sticky.parent / "home"
    lay(kind, sticky / name, home / "victim")
    os.chown(home / "victim", USER, USER)
    where = log_paths.LogPaths({}, sticky / "tp_server.log")

    def collect() -> None:
        with logs._locked(where) as (log, _):
            log.write(b"a secret of the log\n")

    said = as_user(collect)
    assert said.startswith(f"{sticky}/tp_server.log: can't be written (")
    assert said.endswith("): choose another --log-dir")
    assert (home / "victim").read_text() == VICTIM
    assert not (home / "made").exists()
    assert kind != "file" or (sticky / name).read_text() == "mine\n"


@pytest.mark.parametrize("kind", LAID)
def test_a_matrix_that_another_user_laid(sticky: Path, kind: str) -> None:
    home, path = sticky.parent / "home", sticky / Path(rdma.MATRIX).name
    lay(kind, path, home / "victim")
    os.chown(home / "victim", USER, USER)
    from tasks.cluster.rdma import links

    wiring = links.from_specs(["mac1:en5:10.254.0.5", "mac2:en5:10.254.0.6"], [], "30")
    script = setup.write_matrix(wiring).replace(rdma.MATRIX, str(path))
    done = script_as_user(script, home)
    assert (home / "victim").read_text() == VICTIM
    assert not (home / "made").exists()
    assert list(sticky.iterdir()) == [path]
    if kind == "hard link":
        assert done.returncode == 0
        assert json.loads(path.read_text())[0][1] == "rdma_en5"
        return
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(str(path))
    assert "is a folder" in line or line.endswith(f"is it another user's? sudo rm {path}")


def test_a_matrix_that_is_a_pipe(macs: Callable[..., Rig], inv: Inv) -> None:
    """Read, it would never end: it is told in a moment, and nothing is changed."""
    rig = macs()
    nodes = [f"--node={name}:en5:10.254.0.{5 + i}" for i, name in enumerate(rig.names)]
    rig.run("mac1", f"rm -f {rdma.MATRIX}; mkfifo {rdma.MATRIX}")
    refused = inv("rdma.devices", *nodes, code=3)
    assert "it is no file: remove it" in refused.err
    rig.run("mac1", f"rm {rdma.MATRIX}")


class Keys:
    """A node's host keys, and the files by which ssh and we know them."""

    def __init__(self, sshd: Sshd, name: str = "mac1") -> None:
        self.sshd, self.name = sshd, name
        self.at = f"[127.0.0.1]:{sshd.ports[name]}"
        self.own = self.make("ed25519", sshd.folder / f"{name}.key")
        self.config = sshd.folder / "config"

    def make(self, kind: str, path: Path) -> str:
        """A key as known_hosts has it; one that is there already is taken."""
        if not path.exists():
            line = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)]
            subprocess.run(line, check=True)
        return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])

    def other(self, kind: str = "ed25519") -> str:
        return self.make(kind, self.sshd.folder / f"other.{kind}")

    def know(self, *lines: str) -> Keys:
        (self.sshd.folder / "known_hosts").write_text("".join(f"{line}\n" for line in lines))
        return self

    def hash(self) -> None:
        file = self.sshd.folder / "known_hosts"
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)

    def option(self, text: str) -> None:
        """One more option for all hosts in the ssh configuration."""
        self.config.write_text(f"Host *\n  {text}\n{self.config.read_text()}")

    def serve(self, kind: str) -> str:
        """Let the server have another kind of key beside its own; that key."""
        more = self.sshd.folder / f"{self.name}.{kind}"
        key = self.make(kind, more)
        self.sshd.stop(self.name)
        both = f"{self.sshd.folder}/{self.name}.key\nHostKey {more}"
        self.sshd.start(self.name, HostKey=both)
        return key

    def know_other(self, kind: str) -> Keys:
        return self.know(f"{self.at} {self.other(kind)}")

    def know_alias(self, alias: str, own: str) -> None:
        self.know(f"studio {alias}", f"{self.at} {own}")
        self.option(ALIAS)

    def revoke(self, key: str) -> None:
        """Know the own key, and revoke one in a file of its own."""
        self.know(f"{self.at} {self.own}")
        (self.sshd.folder / "revoked").write_text(f"{key}\n")
        self.option(f"RevokedHostKeys {self.sshd.folder}/revoked")

    def taken_by_ssh(self) -> bool:
        strict = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        line = ["ssh", "-F", str(self.config), *strict, self.name, "true"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=DEADLINE)
        return done.returncode == 0

    def answer(self) -> tuple[str | None, str | None]:
        """Why we do not take it, and what to do; (None, None) where it is taken."""
        node = Node(Host(self.name), SshConfig(str(self.config)))
        try:
            found = node.sh("true")
        finally:
            node.close()
        return found.failure, found.remedy


ALIAS = "HostKeyAlias studio"
REVOKED = "RevokedHostKeys /nowhere"

# What is known -> why the key is not taken (None: it is).
KNOWN: list[tuple[str, Callable[[Keys], object], str | None]] = [
    ("its key", lambda k: k.know(f"{k.at} {k.own}"), None),
    ("nothing", lambda k: k.know(), "its host key is not known"),
    ("another's", lambda k: k.know(f"mac9 {k.own}"), "its host key is not known"),
    ("hashed", lambda k: k.know(f"{k.at} {k.own}").hash(), None),
    ("hashed, wrong", lambda k: k.know(f"{k.at} {k.other()}").hash(), "has changed"),
    ("wrong", lambda k: k.know(f"{k.at} {k.other()}"), "has changed"),
    ("two of a kind", lambda k: k.know(f"{k.at} {k.other()}", f"{k.at} {k.own}"), None),
    ("without port", lambda k: k.know(f"127.0.0.1 {k.own}"), None),
    ("wrong without port", lambda k: k.know(f"127.0.0.1 {k.other()}"), "its host key is not known"),
    ("a pattern", lambda k: k.know(f"[127.0.0.?]:* {k.own}"), None),
    ("a pattern but", lambda k: k.know(f"*,!127.*,!{k.at} {k.own}"), "its host key is not known"),
    ("a list", lambda k: k.know(f"mac9,{k.at},mac8 {k.own} me@here"), None),
    ("in capitals", lambda k: k.know(f"{k.at.upper()} {k.own}"), None),
    ("revoked", lambda k: k.know(f"{k.at} {k.own}", f"@revoked {k.at} {k.own}"), "is revoked"),
    ("revoked first", lambda k: k.know(f"@revoked * {k.own}", f"{k.at} {k.own}"), "is revoked"),
    ("revoked only", lambda k: k.know(f"@revoked * {k.own}"), "is revoked"),
    ("other revoked", lambda k: k.know(f"@revoked * {k.other()}", f"{k.at} {k.own}"), None),
    ("revoked elsewhere", lambda k: k.know(f"@revoked mac9 {k.own}", f"{k.at} {k.own}"), None),
    ("authority", lambda k: k.know(f"@cert-authority * {k.other()}"), "by @cert-authority only"),
    ("authority too", lambda k: k.know(f"@cert-authority * {k.other()}", f"{k.at} {k.own}"), None),
    ("other mark", lambda k: k.know(f"@what {k.at} {k.own}"), "its host key is not known"),
    ("other kind", lambda k: k.know(f"{k.at} {k.other('rsa')}"), "(ssh-ed25519; known is ssh-rsa)"),
    ("one of its kinds", lambda k: k.know(f"{k.at} {k.serve('rsa')}"), None),
    ("its kind, wrong", lambda k: (k.serve("rsa"), k.know_other("rsa")), "has changed"),
    ("alias", lambda k: k.know(f"studio {k.own}").option(ALIAS), None),
    ("alias unknown", lambda k: k.know(f"{k.at} {k.own}").option(ALIAS), "is not known"),
    ("alias wrong", lambda k: k.know_alias(k.other(), k.own), "(of studio) has changed"),
    ("junk", lambda k: k.know("# x", "", "junk", f"{k.at} ssh-rsa !!!", f"{k.at} {k.own}"), None),
    ("revoked in a file", lambda k: k.revoke(k.own), "is revoked"),
    ("other in that file", lambda k: k.revoke(k.other()), None),
    ("no such file", lambda k: k.know(f"{k.at} {k.own}").option(REVOKED), "so that no host"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "know", "why"), KNOWN, ids=[row[0] for row in KNOWN])
def test_host_keys(sshd: Sshd, what: str, know: Callable[[Keys], object], why: str | None) -> None:
    """A key is taken where ssh itself takes it, and nowhere else."""
    keys = Keys(sshd)
    know(keys)
    failure, remedy = keys.answer()
    assert (failure is None) == keys.taken_by_ssh()
    if why is None:
        assert failure is None
    else:
        assert failure is not None
        assert why in failure
        assert remedy


def test_the_remedy_for_a_changed_key(sshd: Sshd) -> None:
    """The command that the error names takes the old key away, and no other."""
    keys = Keys(sshd)
    keys.know(f"{keys.at} {keys.other()}", f"mac9 {keys.own}")
    _, remedy = keys.answer()
    command = str(remedy).partition("if you know why: ")[2]
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert (sshd.folder / "known_hosts").read_text() == f"mac9 {keys.own}\n"
    failure, remedy = keys.answer()
    assert failure == "its host key is not known"
    assert str(remedy).endswith(f"ssh -F {keys.config} mac1 true")


def test_host_keys_on_every_way(inv: Inv, sshd: Sshd, home: Path) -> None:
    """tp.*, rdma.* and dev.*, directly, through a gateway, a --proxy and a ProxyJump."""
    first, second = Keys(sshd, "mac1"), Keys(sshd, "mac2")
    second.know(f"{second.at} {second.own}", f"{first.at} {first.own}", f"@revoked * {first.own}")
    hosts = [{"ssh": "mac2", "ips": ["10.0.0.2"], "gateway": "mac1"}]
    file = home / "hosts.json"
    file.write_text(json.dumps({"hosts": hosts, "engine": "mlx-lm"}))
    ends = ["--node=mac1:en5:10.254.0.5", "--node=mac2:en5:10.254.0.6"]
    for words in (
        ["tp.memory", "--hostfile", str(file)],
        ["tp.stop", "--hostfile", str(file)],
        ["rdma.discover", "--hostfile", str(file)],
        ["dev.sync", "--source", "hosts", "--target", "x", "--hostfile", str(file)],
    ):
        done = inv(*words, code=5)
        assert "its gateway's host key is revoked" in done.out + done.err
    refused = inv("rdma.ping", *ends, "--proxy", "mac1:mac2", code=5)
    assert re.search(r"fail +mac1 +its host key is revoked", refused.out + refused.err)
    assert re.search(r"fail +mac2 +its gateway's host key is revoked", refused.out + refused.err)
    jump = first.config.read_text().replace("Host mac2\n", "Host mac2\n  ProxyJump mac1\n")
    first.config.write_text(jump)
    assert "its gateway's host key is revoked" in inv("tp.memory", "--hosts", "mac2", code=5).out
    assert not any(sshd.connections(name) for name in sshd.names)


def test_discover_keeps_secrets_of_a_hostfile(
    inv: Inv, home: Path, macs: Callable[..., Rig]
) -> None:
    """Written anew, it keeps its envs and who may read it; shown, it shows no value."""
    rig = macs()
    file = home / "hosts.json"
    envs = [f"KEY={SECRETS['HOSTFILE_KEY']}"]
    file.write_text(json.dumps({"hosts": [{"ssh": name} for name in rig.names], "envs": envs}))
    file.chmod(0o600)
    words = ("rdma.discover", "--hosts", ",".join(rig.names), "--write", str(file))
    shown = inv(*words, "--json")
    assert SECRETS["HOSTFILE_KEY"] not in shown.out + shown.err
    assert "KEY=***" in shown.json()["hostfile"]["envs"]
    assert envs[0] in json.loads(file.read_text())["envs"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("bind", "args", "warned"),
    [
        ("0.0.0.0", [], True),
        ("::", [], True),
        ("192.168.1.5", [], True),
        ("mac1.local", [], True),
        ("127.0.0.1", [], False),
        ("127.1.2.3", [], False),
        ("localhost", [], False),
        ("::1", [], False),
        ("0.0.0.0", ["--api-key", "k"], False),
        ("0.0.0.0", ["--api-key="], True),
    ],
)
def test_an_open_server_is_pointed_out(bind: str, args: list[str], warned: bool) -> None:
    said = engine.exposure(args, bind, 8000, "mac1")
    assert bool(said) == warned
    assert said is None or ("8000 of mac1" in said and "-- --host 127.0.0.1" in said)
