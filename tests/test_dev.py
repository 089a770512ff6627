"""inv dev.*: copies that are the same on all nodes, and models that are whole and fit."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import layout
import pytest
from conftest import DEADLINE, ROOT, Inv, Sshd, read_here, require, wait_for
from hypothesis import given
from hypothesis import strategies as st
from rig import Rig

from tasks.cluster import facts
from tasks.cluster.config.hostfile import Host
from tasks.cluster.errors import BadInput
from tasks.cluster.facts import ToldError, Unknown
from tasks.cluster.facts.machine import files
from tasks.cluster.facts.machine.files import DANGLING, SyncTarget
from tasks.cluster.facts.machine.memory import GIB
from tasks.cluster.ssh.node import Node, SshConfig
from tasks.cluster.sync import excludes, patchwork
from tasks.cluster.sync import rsync as copying

Macs = Callable[..., Rig]

# Names that a shell, rsync or ssh could take for something else.
NASTY = (
    "a b",
    "it's",
    'say "hi"',
    "$(touch a-canary)",
    "`touch a-canary`",
    "; touch a-canary",
    "ünïcödé-日本",
    "-n",
    "*",
    "{a}",
    "back\\slash",
    "!x",
    "a:b",
    "~",
    "#012",
    "\\#012",
    "x -> y",
    "deleting x",
    "tab\there",
    "%d %s",
)
NASTY_FOLDER = 'it\'s $(touch a-canary) `touch a-canary` "ü 日" !x {a} \\n %d ; touch a-canary'


def plain_tree(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "code.py").write_text("print()")
    (folder / "large").write_bytes(b"x" * 3_000_000)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return plain_tree(tmp_path / "source")


def test_a_long_listing_is_told(inv: Inv, source: Path, home: Path) -> None:
    """Of a tree that takes its time, here, too."""
    (home / "bin").mkdir()
    find = home / "bin" / "find"
    find.write_text(f'#!/bin/sh\n[ "$PWD" != {source} ] || sleep 3\nexec /usr/bin/find "$@"\n')
    find.chmod(0o755)
    inv.env["PATH"] = f"{home / 'bin'}:{os.environ['PATH']}"
    words = ["--source", str(source), "--target", str(home / "copy"), "--hosts", "127.0.0.1"]
    said = inv("dev.sync", *words).err
    assert re.search(rf"listing {source}: waiting for 127.0.0.1, \d+ s", said)


def shown(folder: str) -> str:
    """/bin/sh text that prints the files below `folder`, with their checksums."""
    return f"cd {folder} && find . -type f -exec cksum {{}} + | sort -k 3"


def here(folder: Path) -> str:
    return subprocess.run(
        ["sh", "-c", shown('"$1"'), "sh", str(folder)], capture_output=True, text=True, check=True
    ).stdout


# The steps, each alone.


def matched(patterns: list[str], names: list[str], rsync: str = "rsync") -> set[str]:
    """Those of `names` that rsync itself leaves out."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder) / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        words = [rsync, "-r", *(f"--exclude={each}" for each in patterns)]
        subprocess.run([*words, f"{folder}/source/", f"{folder}/copy/"], check=True)
        copy = Path(folder) / "copy"
        return {name for name in names if not (copy / name).exists()}


TREE = ["a", "b.py", "c d", "é", "-x", "!", ".git/config", "b/a", "b/ab", "b/b/a.py", "b/b/c/a"]
TREE += ["c/.git/a", "c/[a]", "c/a b/b.pyc", "d/b/a", "d/b.pyc/a"]
PIECES = ["a", "b", ".", "*", "**", "?", "/", "[ab]", "[!a]", "[^b]", "[a-c]", "[+-9]", "py", "é"]
PIECES += [" ", "[", "]", "-", "!", "\\", "git", "c"]


@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join), max_size=2))
def test_excludes_are_those_of_rsync(patterns: list[str]) -> None:
    require(shutil.which("rsync"), "needs rsync")
    try:
        is_left_out = excludes.matcher(patterns)
    except BadInput:
        return
    assert {name for name in TREE if is_left_out(name)} == matched(patterns, TREE)


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join))
def test_what_is_not_read_is_left_out(pattern: str) -> None:
    """`find -name` skips what the pattern is for, no more and no less."""
    try:
        is_left_out = excludes.matcher([pattern])
    except BadInput:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in TREE:
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).touch()
        found = read(files.fact(folder, excludes.names([pattern])))
    kept = {name for name in TREE if not is_left_out(name)}
    assert found.keys() == (kept if excludes.names([pattern]) else set(TREE))


@pytest.mark.parametrize(
    ("pattern", "left_out"),
    [
        (".git", [".git/config", "c/.git/a"]),
        ("/.git", [".git/config"]),
        ("*.pyc", ["c/a b/b.pyc", "d/b.pyc/a"]),
        ("*.pyc/", ["d/b.pyc/a"]),
        ("b/a", ["b/a", "d/b/a"]),
        ("/b/**", ["b/a", "b/ab", "b/b/a.py", "b/b/c/a"]),
        ("*.py[co]", ["c/a b/b.pyc", "d/b.pyc/a"]),
        ("c d", ["c d"]),
        ("?", ["a", "!", "b/a", "b/ab", "b/b/a.py", "b/b/c/a", "c/.git/a", "c/[a]", "d/b/a"]),
    ],
)
def test_excludes(pattern: str, left_out: list[str]) -> None:
    is_left_out = excludes.matcher([pattern])
    found = [name for name in TREE if is_left_out(name)]
    assert set(left_out) <= set(found)
    if pattern != "?":
        assert found == left_out


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "/",
        "//",
        "a//b",
        "a***",
        "- a",
        "+ a",
        "!",
        "a\\*",
        "[a",
        "[[:alpha:]]",
        "[z-a]",
        "a\nb",
    ],
)
def test_patterns_that_are_refused(pattern: str) -> None:
    with pytest.raises(BadInput, match=r"^--exclude .*: give a name or a path"):
        excludes.matcher([pattern])


LISTED = {"big": 3_000_000, "a b/ü": 6, "lnk": 3_000_000, "x -> y": 1, "deleting x": 1, "n\nl": 2}


@pytest.mark.parametrize(
    ("lines", "sent", "deleted", "bytes_so_far", "complaints"),
    [
        # rsync 3
        (["sending incremental file list", "a b/", "created directory t"], [], [], 0, []),
        (["big", "         32.77K   1%    0.00kB/s    0:00:00  "], ["big"], [], 30_000, []),
        (["big", "  3.00M 100%  404MB/s 0:00:00 (xfr#1, to-chk=7/9)"], ["big"], [], 3_000_000, []),
        (["big", "  3.00M 100%  404MB/s 0:00:00", "a b/ü"], ["big", "a b/ü"], [], 3_000_000, []),
        (["a b/\\#303\\#274"], ["a b/ü"], [], 0, []),
        (["n\\#012l", "lnk -> big"], ["n\nl", "lnk"], [], 2, []),
        (["x -> y", "deleting x", "deleting y", "deleting z/"], ["x -> y", "deleting x"],
         ["y", "z/"], 1, []),
        (["sent 3.00M bytes  received 125 bytes  6.00M bytes/sec",
          "total size is 3.00M  speedup is 1.00", ""], [], [], 0, []),
        (['rsync: [receiver] mkstemp "/t/.big" failed: No space left on device (28)',
          "rsync error: some files could not be transferred (code 23)"], [], [], 0,
         ['rsync: [receiver] mkstemp "/t/.big" failed: No space left on device (28)',
          "rsync error: some files could not be transferred (code 23)"]),
        # openrsync
        (["Transfer starting: 9 files", "big", "  3000000 100%   80.12MB/s   00:00:00",
          "sent 3000256 bytes  received 100 bytes  5000000 bytes/sec"],
         ["big"], [], 3_000_000, []),
    ],
)  # fmt: skip
def test_what_rsync_prints(
    lines: list[str], sent: list[str], deleted: list[str], bytes_so_far: int, complaints: list[str]
) -> None:
    seen = copying.CopyProgress(LISTED)
    for line in lines:
        seen.line(line + "\n")
    assert (seen.sent, seen.deleted) == (sent, deleted)
    assert (seen.bytes, seen.complaints) == (bytes_so_far, complaints)


def read(fact: facts.Fact[Any], cwd: Path | None = None, **environment: str) -> Any:
    """The fact's value on this machine, read as on a node."""
    return read_here(fact, cwd=cwd, **environment).get(fact.key)


def test_listing(tmp_path: Path) -> None:
    folder = tmp_path / NASTY_FOLDER
    (folder / ".hidden").mkdir(parents=True)
    (folder / ".hidden" / "x").write_text("x")
    for name in NASTY:
        (folder / name).write_text(name)
    (folder / "large").write_bytes(bytes(2**20 + 1))
    (folder / "to large").symlink_to("large")
    (folder / "to nothing").symlink_to("nothing")
    found = read(files.fact(str(folder)), tmp_path)
    assert found.keys() == {*NASTY, ".hidden/x", "large", "to large", "to nothing"}
    assert found["large"] == found["to large"] == "1048577"
    assert found["to nothing"] == DANGLING
    assert re.fullmatch(r"4 \d+", found["it's"])
    assert files.size(found["it's"]) == 4
    assert not list(tmp_path.rglob("a-canary"))


def test_listing_with_a_macs_wc(tmp_path: Path) -> None:
    """It changes names that are not ASCII where the locale is C, and puts blanks before numbers."""
    apples = (ROOT / "tests" / "rig" / "mac" / "wc.pl").read_text()
    (tmp_path / "bin").mkdir()
    wc = tmp_path / "bin" / "wc"
    wc.write_text(apples.replace("/.rig/bin/gnu/wc", str(shutil.which("wc"))))
    wc.chmod(0o755)
    folder = tmp_path / "m"
    folder.mkdir()
    for name in ("größe", "12 3 x"):
        (folder / name).write_bytes(bytes(2**20 + 1))
    said = subprocess.run([wc, "-c", folder / "größe"], capture_output=True, env={"LC_ALL": "C"})
    assert said.stdout == b" 1048577 " + bytes(folder) + b"/gr??" + b"??e\n"
    path = f"{wc.parent}:{os.environ['PATH']}"
    found = read(files.fact(str(folder)), LC_ALL="C", PATH=path)
    assert found == {"größe": "1048577", "12 3 x": "1048577"}


def test_listing_of_links_that_lead_to_themselves(tmp_path: Path) -> None:
    """find has an error for each, and another status: it lists the rest."""
    folder = tmp_path / NASTY_FOLDER
    folder.mkdir()
    (folder / "x").touch()
    for name, to in (("self", "self"), ("a", "b"), ("b", "a"), ("again", ".")):
        (folder / name).symlink_to(to)
    found = read(files.fact(str(folder)), tmp_path)
    assert {name for name, seen in found.items() if seen == DANGLING} == {"self", "a", "b"}
    assert found.keys() - {"again"} == {"self", "a", "b", "x"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 2 ./a\nfind: ./b: Permission denied", "b in it can't be read: Permission denied"),
        ("find: './b c': Permission denied", "b c in it can't be read: Permission denied"),
        ("1 2 ./a\nb", "name of more than one line"),
    ],
)
def test_a_listing_says_what_is_wrong_in_one_line(text: str, expected: str) -> None:
    with pytest.raises(ToldError, match=expected) as raised:
        files.parse_files(text, 1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["1 2 3 ./a", "x"])
def test_a_listing_with_anything_else_in_it_is_unknown(text: str) -> None:
    with pytest.raises(ValueError, match="can't be listed"):
        files.parse_files(text, 0)


def test_a_folder_that_is_gone_is_unknown(tmp_path: Path) -> None:
    assert isinstance(read(files.fact(str(tmp_path / "gone"))), Unknown)
    (tmp_path / "a\nb").touch()
    assert isinstance(read(files.fact(str(tmp_path))), Unknown)


def test_place(tmp_path: Path) -> None:
    home = tmp_path / "my home"
    (home / "there").mkdir(parents=True)
    (home / "link").symlink_to("there")
    (home / "file").touch()
    place = {
        name: read(files.place(name, "/nowhere", "-"), tmp_path, HOME=str(home))
        for name in ("~", "~/there", "~/link", "~/new one/$(touch a-canary)", "/new", "~/file")
    }
    number = f"{home.stat().st_dev}:{home.stat().st_ino}"
    has_rsync = shutil.which("rsync") is not None
    assert place["~"] == SyncTarget(str(home), number, has_rsync, (("is", "home"),))
    assert place["~/there"] == place["~/link"]
    assert (place["~/there"].folder, place["~/there"].near) == (str(home / "there"), ())
    new = place["~/new one/$(touch a-canary)"]
    assert (new.folder, new.id) == (f"{home}/new one/$(touch a-canary)", "")
    assert place["/new"].folder == "/new"
    assert "is no folder" in place["~/file"].why
    assert not list(tmp_path.rglob("a-canary"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "stat").symlink_to(shutil.which("stat") or "")
    for name in ("cat", "sed", "head"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    bare = read(files.place("~", "/", "-"), tmp_path, HOME=str(home), PATH=str(tmp_path / "bin"))
    assert not bare.has_rsync


# What reads this on a node: dash on Debian, bash 3.2 on a Mac, others where a user chose so.
SHELLS = ("dash", "bash --posix -O xpg_echo", "mksh", "busybox sh")
each_sh = pytest.mark.parametrize("sh", SHELLS)


def near(sh: str, target: str, home: Path, source: str = "/nowhere", **more: str) -> Any:
    """How a target lies to what must not be deleted, as this shell tells; its path."""
    require(shutil.which(sh.split()[0]), f"needs {sh}")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    script = files.place(target, source, boot, "~/.mlx-tp").command
    done = subprocess.run(
        sh.split(), input=script, capture_output=True, text=True, cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **more},
    )  # fmt: skip
    assert done.stderr == ""
    place = files.parse_place(done.stdout, done.returncode)
    return place.folder, {" ".join(pair) for pair in place.near}


@pytest.fixture
def homes(tmp_path: Path) -> Path:
    """A home with what is in one: state, Hugging Face's cache, links to all and sundry."""
    home = tmp_path / "Users" / "me"
    for name in (".mlx-tp/default", ".cache/huggingface/hub/models--a", "copy", "src/sub"):
        (home / name).mkdir(parents=True)
    for name, leads in {"home": ".", "up": "..", "rootlink": "/", "src-link": "src"}.items():
        (home / name).symlink_to(leads)
    return home


@each_sh
@pytest.mark.parametrize(
    ("target", "folder", "expected"),
    [
        ("~/copy", "{home}/copy", set()),
        ("~/new/er", "{home}/new/er", set()),
        ("~", "{home}", {"is home", "holds state", "holds store", "holds source"}),
        ("~/home", "{home}", {"is home", "holds state", "holds store", "holds source"}),
        ("~/up", "{up}", {"holds home", "holds state", "holds store", "holds source"}),
        ("~/up/me", "{home}", {"is home", "holds state", "holds store", "holds source"}),
        ("~/home/new", "{home}/new", set()),
        ("~/.mlx-tp", "{home}/.mlx-tp", {"is state"}),
        ("~/home/.mlx-tp/default", "{home}/.mlx-tp/default", {"in state"}),
        ("~/.mlx-tp/new", "{home}/.mlx-tp/new", {"in state"}),
        ("~/.cache", "{home}/.cache", {"holds store"}),
        ("~/.cache/huggingface/hub", "{home}/.cache/huggingface/hub", {"in store"}),
        ("~/src", "{home}/src", {"is source"}),
        ("~/src-link", "{home}/src", {"is source"}),
        ("~/src-link/sub", "{home}/src/sub", {"in source"}),
        ("~/src-link/new", "{home}/src/new", {"in source"}),
        ("/", "/", {"is root", "holds home", "holds tmp", "holds state", "holds store",
                    "holds source"}),
        ("/tmp", "/tmp", {"is tmp"}),
        ("~/rootlink/tmp", "/tmp", {"is tmp"}),
    ],
)  # fmt: skip
def test_what_a_target_is(
    homes: Path, sh: str, target: str, folder: str, expected: set[str]
) -> None:
    where, found = near(sh, target, homes, str(homes / "src-link"))
    assert where == folder.format(home=homes, up=homes.parent)
    # Where this test's folders are is its own matter.
    if folder in ("/tmp", "/"):
        found, expected = found & {"is tmp", "is root", "holds home"}, expected - {
            "holds tmp", "holds state", "holds store", "holds source"
        }  # fmt: skip
        expected |= {"holds home"} & found
    assert found == expected


@each_sh
def test_stores_that_the_environment_names(homes: Path, sh: str, tmp_path: Path) -> None:
    (tmp_path / "big" / "hub").mkdir(parents=True)
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        told = near(sh, str(tmp_path / "big"), homes, **{name: str(tmp_path / "big" / "hub")})
        assert "holds store" in told[1]


@each_sh
def test_stores_of_other_tools(homes: Path, sh: str, tmp_path: Path) -> None:
    """A model of them may be a target, all of them may not."""
    store = tmp_path / "ollama"
    (store / "one").mkdir(parents=True)
    for target, expected in ((store, {"is models"}), (store / "one", set())):
        assert near(sh, str(target), homes, OLLAMA_MODELS=str(store))[1] == expected


@each_sh
def test_a_folder_by_another_name_is_the_same(homes: Path, sh: str, tmp_path: Path) -> None:
    """As `/USERS/ME` where case is ignored, and a firmlink: mounts are such names on Linux."""
    other = tmp_path / "USERS" / "ME"
    with same_folder(homes, other):
        assert "is home" in near(sh, str(other), homes)[1]
        assert near(sh, f"{other}/.mlx-tp/new", homes)[1] == {"in state"}
        assert near(sh, f"{other}/copy", homes) == (f"{other}/copy", set())
        assert "holds home" in near(sh, str(other.parent), other)[1]
        for target, expected in {"src": "is", "src/sub": "in", "src/new": "in"}.items():
            assert near(sh, f"{other}/{target}", homes, f"{homes}/src")[1] == {f"{expected} source"}


@contextmanager
def same_folder(folder: Path, other: Path) -> Iterator[Path]:
    """One folder by two names that are no links, as another case and a firmlink are."""
    other.mkdir(parents=True)
    done = subprocess.run(["mount", "--bind", folder, other], capture_output=True)
    require(done.returncode == 0, "needs root, to mount")
    try:
        yield other
    finally:
        subprocess.run(["umount", other], check=True)


@pytest.mark.parametrize("sh", ["dash", "bash --posix -O xpg_echo"])
@pytest.mark.parametrize("is_new", [True, False])
def test_what_was_looked_at_is_what_is_synced(sh: str, is_new: bool, tmp_path: Path) -> None:
    """Between the look and the act a link to the home is laid at the target's place."""
    require(shutil.which("rsync"), "needs rsync")
    home, copy = tmp_path / "home", tmp_path / "home" / "copy"
    plain_tree(tmp_path / "source")
    home.mkdir()
    (home / "precious").touch()
    if not is_new:
        copy.mkdir()
    place = read(files.place(str(copy), "/nowhere", "-"), tmp_path, HOME=str(home))
    if not is_new:
        copy.rename(home / "moved")
    copy.symlink_to(home)
    wanted = copying.Copy(str(tmp_path / "source"), str(copy), delete=True)
    line = copying.command(wanted, Node(Host("127.0.0.1")), place, "/c")
    done = subprocess.run([*sh.split(), "-c", line], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"{copy} has changed since it was looked at: nothing was done there\n"
    assert (home / "precious").exists()
    copy.unlink()
    line = copying.command(wanted, Node(Host("127.0.0.1")), SyncTarget(str(copy), "", True), "/c")
    assert subprocess.run([*sh.split(), "-c", line], capture_output=True).returncode == 0
    assert here(copy) == here(tmp_path / "source")


def test_compare() -> None:
    ours = {"a": "1 7", "b": "2 7", "c": "3"}
    assert files.compare(ours, {"b": "2 8", "c": "3", "d": "1", "e": "1"}) == files.Difference(
        missing=["a"], other=["b"], more=["d", "e"]
    )
    assert files.compare(ours, ours) == files.Difference([], [], [])


def test_the_shim_is_all_that_patchwork_needs() -> None:
    """What the module is for: in an interpreter of its own, nothing else has imported it."""
    code = (
        "import sys; sys.modules.pop('tasks', None);"
        "from tasks.cluster.sync import patchwork; patchwork.rsync"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = "import patchwork.transfers"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "invoke.vendor" in done.stderr, "it mends itself: tasks/cluster/sync/patchwork.py can go"
    assert patchwork.__all__ == ["rsync"]


def openrsync(folder: Path) -> dict[str, str]:
    """The environment in which `rsync` takes --rsync-path apart as a Mac's does."""
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "rig" / "mac" / "rsync.pl", folder / "rsync")
    (folder / "rsync").chmod(0o755)
    real = str(shutil.which("rsync"))
    return {"PATH": f"{folder}:{os.environ['PATH']}", "RIG_RSYNC": real}


@pytest.mark.parametrize("is_open", [False, True], ids=["rsync 3", "openrsync"])
@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish", "tcsh"])
def test_target_is_safe_in_every_login_shell(shell: str, is_open: bool, tmp_path: Path) -> None:
    """rsync runs our text through the user's login shell on the node: here, a stand-in for ssh."""
    for program in ("rsync", shell):
        require(shutil.which(program), f"needs {program}")
    rsh = tmp_path / "ssh"
    rsh.write_text(f'#!/bin/sh\nwhile [ "$1" != node ]; do shift; done; shift\n'
                   f'exec {shell} -c "$*"\n')  # fmt: skip
    rsh.chmod(0o755)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "it's").touch()
    node = Node(Host("node", user="me", port=7))
    copy = copying.Copy(str(tmp_path / "source"), "")
    folder = tmp_path / "nodes" / NASTY_FOLDER
    place = SyncTarget(str(folder), "", True)
    line = copying.command(copy, node, place, "/c").replace("--rsh='ssh ", f"--rsh='{rsh} ")
    env = openrsync(tmp_path / "bin") if is_open else {}
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [each.name for each in folder.iterdir()] == ["it's"]
    assert not list(tmp_path.rglob("a-canary"))


# inv dev.sync on nodes.


@pytest.fixture
def sync(inv: Inv, source: Path) -> Callable[..., Any]:
    """`sync("a,b", ...)`: inv dev.sync of `source` to these hosts."""
    require(shutil.which("rsync"), "needs rsync")

    def run(hosts: str, *words: str, code: int = 0, folder: Path = source, to: str = "copy") -> Any:
        where = ("--hosts", hosts, "--source", str(folder), "--target", to)
        return inv("dev.sync", *where, *words, code=code)

    return run


Sync = Callable[..., Any]


def assert_no_canary(rig: Rig) -> None:
    for host in rig.names:
        found = rig.run(
            host, 'find "$HOME" /tmp/ -xdev -name a-canary; ls -d /a-canary', check=False
        )
        assert found.stdout == ""


def there(rig: Rig, host: str, folder: str = '"$HOME/copy"') -> str:
    return rig.run(host, shown(folder)).stdout


def test_sync(inv: Inv, sync: Sync, macs: Macs, source: Path, tmp_path: Path) -> None:
    rig = macs(3)
    inv.env |= openrsync(tmp_path / "bin")
    (source / ".git").mkdir()
    (source / ".git" / "config").touch()
    (source / "sub" / "x.pyc").touch()
    done = sync("mac1,mac2,mac3", "--exclude", "*.log")
    assert re.findall(r"^(\w+) +(mac\d) +(.*)$", done.out, re.MULTILINE) == [
        ("ok", name, "3 files sent (2.9 MiB); 3 files there as here") for name in rig.names
    ]
    assert f"{source}: 3 files (2.9 MiB) to 3 nodes" in done.err
    assert "\x1b" not in done.out + done.err
    shutil.rmtree(source / ".git")
    (source / "sub" / "x.pyc").unlink()
    assert {there(rig, name) for name in rig.names} == {here(source)}

    again = sync("mac1,mac2,mac3")
    assert re.findall(r"unchanged; 3 files there as here$", again.out, re.MULTILINE) == [
        "unchanged; 3 files there as here"
    ] * len(rig.names)

    # Of the same size and time, so that rsync does not see it: the comparison does.
    time = rig.run("mac2", "stat -f %m ~/copy/config.json").stdout.strip()
    rig.run("mac2", f"printf '[]' >~/copy/config.json; touch -d @{time} ~/copy/config.json")
    (source / "sub" / "code.py").write_text("changed")
    changed = sync("mac1,mac2", code=4)
    assert re.search(r"^ok +mac1 +1 file sent \(7 B\); 3 files there as here$", changed.out, re.M)
    assert re.search(r"^fail +mac2 +not as here: config.json ", changed.out, re.MULTILINE)
    assert changed.err.strip().splitlines()[-1].startswith("mac2: not as here: config.json")


def test_delete_only_when_asked(sync: Sync, macs: Macs, source: Path) -> None:
    rig = macs()
    sync("mac1,mac2")
    rig.run("mac2", "mkdir -p ~/copy/.git ~/copy/more; touch ~/copy/.git/x ~/copy/more/y ~/copy/z")
    (source / "config.json").unlink()
    kept = sync("mac1,mac2")
    assert re.search(r"^warn +mac1 .*more than here: config.json \(", kept.out, re.MULTILINE)
    assert re.search(r"^warn +mac2 .*more than here: config.json and 2 more", kept.out, re.M)
    before = [there(rig, name) for name in rig.names]
    dry = sync("mac1,mac2", "--delete", "--dry-run")
    found = re.findall(r"^delete +(mac\d) +(.*)$", dry.out, re.MULTILINE)
    more = ("config.json", "more/", "more/y", "z")
    assert sorted(found) == [("mac1", "config.json"), *(("mac2", name) for name in more)]
    assert [there(rig, name) for name in rig.names] == before
    gone = sync("mac1,mac2", "--delete")
    assert re.search(r"^ok +mac1 +unchanged, 1 deleted; 2 files there as here$", gone.out, re.M)
    assert re.search(r"^ok +mac2 +unchanged, 4 deleted; 2 files there as here$", gone.out, re.M)
    assert there(rig, "mac1") == here(source)
    # What is left out is not deleted either.
    assert rig.run("mac2", "ls -A ~/copy").stdout.split() == [".git", "large", "sub"]


def test_much_is_not_deleted_without_asking(sync: Sync, macs: Macs) -> None:
    """More than 100 files, or 1 GB, of a node; what is left out does not count."""
    rig = macs()
    sync("mac2")
    for make, what in (
        ("mkdir .git; touch $(seq 1 101) .git/x", "101 files (0 B): 1, 10, 100, 101, 11 (and 96 "),
        ("rm ?*[1-9]; truncate -s 1100000000 huge", "20 files (1.0 GiB): 1"),
    ):
        rig.run("mac2", f"cd ~/copy && {make}")
        refused = sync("mac2", "--delete", code=2)
        says, line = refused.err.splitlines()
        assert says.startswith(f"mac2: --delete would delete {what}")
        assert line.startswith("there is no terminal to ask on: see it with --dry-run, then add")
    assert re.search(r"^ok +mac2 .*, 20 deleted", sync("mac2", "--delete", "--yes").out, re.M)
    rig.run("mac2", "cd ~/copy && touch $(seq 1 100)")
    assert re.search(r"^ok +mac2 .*, 100 deleted", sync("mac2", "--delete").out, re.M)
    assert rig.run("mac2", "ls ~/copy/.git").stdout == "x\n"


def test_nobody_waits_for_an_answer(inv: Inv, macs: Macs, source: Path) -> None:
    """The question stands before the lock; what came since is not deleted by that answer."""
    rig = macs()
    where = ("--hosts", "mac2", "--source", str(source), "--target", "copy")
    inv("dev.sync", *where)
    rig.run("mac2", "cd ~/copy && touch $(seq 1 101)")
    for meanwhile, code, says in (
        ("touch ~/copy/new", 3, "mac2: --delete would delete more than was asked for: new;"),
        ("true", 0, "mac2: --delete would delete 102 files"),
    ):
        ours, theirs = pty.openpty()
        asked = inv.start("dev.sync", *where, "--delete", stdin=theirs)
        os.close(theirs)
        assert asked.stderr
        said = "".join(iter(asked.stderr.readline, "delete it? yes or no\n"))
        rig.run("mac2", f"test ! -e ~/{layout.CLUSTER}/lock && {meanwhile}")
        os.write(ours, b"yes\n")
        _, err = asked.communicate(timeout=DEADLINE)
        os.close(ours)
        assert asked.returncode == code, err
        assert says in said + err
    assert there(rig, "mac2") == here(source)


@pytest.mark.parametrize("words", [("--dry-run",), ()])
def test_dry_run_changes_nothing(
    inv: Inv, macs: Macs, source: Path, words: tuple[str, ...]
) -> None:
    rig = macs()
    core = () if words else ("-R",)
    where = ("--hosts", "mac1,mac2", "--source", str(source), "--target", "new/copy")
    dry = inv(*core, "dev.sync", *where, *words)
    assert re.findall(r"^# (mac\d): (.*)\nexec rsync ", dry.out, re.MULTILINE) == [
        ("mac1", "/Users/mac1/new/copy"),
        ("mac2", "/Users/mac2/new/copy"),
    ]
    assert re.findall(r"^send +(mac\d) +(.*)$", dry.out, re.MULTILINE) == [
        (host, name) for host in rig.names for name in ("config.json", "large", "sub/code.py")
    ]
    assert all(rig.run(host, "ls -A ~").stdout == "" for host in rig.names)
    rig.run("mac1", "mkdir -p ~/new/copy; echo other >~/new/copy/large")
    dry = inv(*core, "dev.sync", *where, *words)
    assert re.search(r"^send +mac1 +large$", dry.out, re.MULTILINE)
    assert rig.run("mac1", "cat ~/new/copy/*").stdout == "other\n"


@pytest.mark.parametrize(
    "shells", [{"mac1": "zsh", "mac2": "fish"}, {"mac1": "tcsh", "mac2": "bash"}], ids=str
)
def test_names_that_are_not_plain(
    sync: Sync, macs: Macs, tmp_path: Path, shells: dict[str, str]
) -> None:
    rig = macs(homes={"mac2": "/Users/my mac"}, shells=shells)
    folder = tmp_path / NASTY_FOLDER
    (folder / "sub").mkdir(parents=True)
    for name in NASTY:
        (folder / "sub" / name).write_text(name)
    for target in (NASTY_FOLDER, f"~/{NASTY_FOLDER}/x", f"/tmp/{NASTY_FOLDER}"):
        done = sync("mac1,mac2", folder=folder, to=target)
        assert done.out.count(f"{len(NASTY)} files there as here") == 2
    again = sync("mac1,mac2", folder=folder, to=NASTY_FOLDER)
    assert len(re.findall(r"^warn .*unchanged.*more than here: x/sub/", again.out, re.M)) == 2
    for host in rig.names:
        for place in ('"$HOME"', "/tmp/"):
            found = rig.run(host, f"find {place} -name '-n'", root=True).stdout
            assert NASTY_FOLDER in found
    assert_no_canary(rig)
    assert not list(tmp_path.rglob("a-canary"))
    assert not (ROOT / "a-canary").exists()
    # What is left out may be called anything, too.
    patterns = ("--exclude", "$(touch a-canary)", "--exclude", "it's", "--exclude", '"')
    done = sync("mac1", *patterns, folder=folder, to="x")
    assert f"{len(NASTY) - 2} files there as here" in done.out
    assert_no_canary(rig)


def test_links(sync: Sync, macs: Macs, tmp_path: Path, source: Path) -> None:
    """Links stay links; one that leads out, as in Hugging Face's cache, is copied as a file."""
    rig = macs()
    (tmp_path / "blob").write_text("weights")
    (source / "inside").symlink_to("sub/code.py")
    (source / "outside").symlink_to("../blob")
    done = sync("mac1,mac2")
    assert done.out.count("5 files there as here") == 2
    shown = rig.run("mac1", "cd ~/copy && readlink inside; readlink outside; cat outside").stdout
    assert shown == "sub/code.py\nweights"
    # A link to what is left out leads nowhere there, and that is said.
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "x").touch()
    (source / "to left out").symlink_to("__pycache__/x")
    done = sync("mac1")
    assert re.search(r"^warn +mac1 .*links lead nowhere: to left out$", done.out, re.MULTILINE)


def test_node_that_fails(sync: Sync, macs: Macs, source: Path) -> None:
    """It is said, and the others are still done."""
    rig = macs(3)
    rig.ssh_off("mac1")
    rig.run("mac2", "touch ~/copy")
    done = sync("mac1,mac2,mac3", code=5)
    rows = re.findall(r"^(not reached|\w+) +(mac\d) +(.*)$", done.out, re.MULTILINE)
    assert [row[:2] for row in rows] == [("not reached", "mac1"), ("fail", "mac2"), ("ok", "mac3")]
    assert "ssh -F" in rows[0][2]
    assert "is no folder that can be entered" in rows[1][2]
    assert there(rig, "mac3") == here(source)
    rig.ssh("mac1")
    done = sync("mac1,mac2", code=4)
    wrong = "mac2: the target can't be used (exit status 1): /Users/mac2/copy is no folder"
    assert wrong in done.err
    assert there(rig, "mac1") == here(source)


def test_full_disk(sync: Sync, macs: Macs) -> None:
    rig = macs()
    rig.run(
        "mac2",
        "mkdir -p ~/copy && mount -t tmpfs -o size=400k,uid=501,gid=20 tmpfs ~/copy",
        root=True,
    )
    try:
        done = sync("mac1,mac2", code=4)
    finally:
        rig.unmount("mac2", rig.home("mac2") + "/copy")  # its rsync may still be about to end
    # rsync may end before it has told what the other side complained of.
    why = r"(rsync: .*No space left on device|rsync ended with status 11 .*is the disk full)"
    assert re.search(rf"^fail +mac2 .*{why}", done.out, re.MULTILINE)
    assert re.search(r"^ok +mac1 ", done.out, re.MULTILINE)
    assert done.err.strip().splitlines()[-1].startswith("mac2: rsync")


@pytest.fixture
def fake_rsync(macs: Macs) -> Any:
    """`fake_rsync(rig, host, text)`: another rsync there (None: none at all), for this test."""
    changed: list[tuple[Rig, str]] = []

    def put(rig: Rig, host: str, text: str | None) -> None:
        changed.append((rig, host))
        rig.run(host, "mv /usr/bin/rsync /usr/bin/rsync.real", root=True)
        if text is not None:
            rig.run(host, "cat >/usr/bin/rsync; chmod 755 /usr/bin/rsync", input=text, root=True)

    yield put
    for rig, host in changed:
        rig.run(host, "mv /usr/bin/rsync.real /usr/bin/rsync", root=True)


def test_no_rsync_there(sync: Sync, macs: Macs, fake_rsync: Any) -> None:
    rig = macs()
    fake_rsync(rig, "mac2", None)
    done = sync("mac1,mac2", code=4)
    assert re.search(r"^fail +mac2 +rsync is not installed there$", done.out, re.MULTILINE)
    assert re.search(r"^ok +mac1 ", done.out, re.MULTILINE)


def test_a_lie_is_found(sync: Sync, macs: Macs, fake_rsync: Any) -> None:
    """Whatever rsync says, what is there is looked at."""
    rig = macs()
    fake_rsync(rig, "mac2", '#!/bin/sh\n/usr/bin/rsync.real "$@"; s=$?; rm -f large; exit $s\n')
    done = sync("mac1,mac2", code=4)
    assert re.search(r"^fail +mac2 +missing there: large$", done.out, re.MULTILINE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted(
    inv: Inv, macs: Macs, source: Path, fake_rsync: Any, number: signal.Signals
) -> None:
    """However it ends, the copies end on both sides."""
    rig = macs()
    fake_rsync(rig, "mac2", "#!/bin/sh\ntouch /tmp/begun\nexec cat >/dev/null\n")
    where = ("--hosts", "mac1,mac2", "--source", str(source), "--target", "copy")
    process = inv.start("dev.sync", *where)
    wait_for(lambda: rig.run("mac2", "test -e /tmp/begun", check=False).returncode == 0)
    process.send_signal(number)
    _, err = process.communicate(timeout=DEADLINE)
    is_killed = number == signal.SIGKILL
    assert process.returncode == (-number if is_killed else 128 + number)
    assert "Traceback" not in err
    wait_for(lambda: rig.run("mac2", "pgrep -x cat", check=False).returncode == 1)
    wait_for(lambda: running(f"rsync .*{source}") == "", 5 if is_killed else 0.5)
    if is_killed:
        return  # the folder of its ssh configuration is left

    left = [link for link in Path("/tmp").glob("mlx-tp-*/0") if link.resolve() == rig.ssh_config]
    assert left == []


def running(pattern: str) -> str:
    line = ["pgrep", "-fa", pattern]
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout


def on_a_terminal(inv: Inv, *words: str) -> str:
    """What `inv` writes on a terminal that shows colours."""
    ours, theirs = pty.openpty()
    environment = {**inv.environment(), "TERM": "xterm-256color", "COLUMNS": "100"}
    del environment["NO_COLOR"]
    process = subprocess.Popen(
        [sys.executable, "-m", "invoke", *words],
        cwd=ROOT,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                shown += terminal.read(65536)
            except OSError:  # nobody holds its other end any more
                break
    assert process.wait(DEADLINE) == 0
    return shown.decode()


def test_bars_on_a_terminal(inv: Inv, macs: Macs, source: Path) -> None:
    macs()
    where = ("--hosts", "mac1,mac2", "--source", str(source), "--target", "copy")
    shown = on_a_terminal(inv, "dev.sync", *where)
    assert re.search(r"mac1 .*━.* (large|sub/code.py)", shown)
    assert re.search(r"mac2 .*━", shown)
    assert "\x1b[32mok\x1b[0m" in shown


def test_this_machine_too(sync: Sync, macs: Macs, source: Path, tmp_path: Path) -> None:
    macs()
    target = tmp_path / "it's here"
    done = sync("127.0.0.1,mac1", to=str(target))
    assert re.search(r"^ok +127.0.0.1 +3 files sent", done.out, re.MULTILINE)
    assert here(target) == here(source)
    same = sync("127.0.0.1", to=str(source))
    assert "unchanged; 3 files there as here" in same.out
    (tmp_path / "link").symlink_to(source)
    assert "unchanged" in sync("localhost", to=str(tmp_path / "link")).out
    for nested in (source / "sub", source / "sub" / "new", tmp_path):
        assert "within one another" in sync("127.0.0.1", to=str(nested), code=3).err
    assert not (source / "sub" / "new").exists()
    with same_folder(source, tmp_path / "SOURCE") as other:
        assert "unchanged" in sync("127.0.0.1", "--delete", to=str(other)).out
        for nested in (other / "sub", other / "new"):
            done = sync("127.0.0.1", "--delete", to=str(nested), code=3)
            assert "within one another" in done.err
    assert here(source) == here(target)


DATA = "/System/Volumes/Data"
HOME_NAMES: tuple[str, ...] = ("~", "/", "/Users", "/Users/mac2", ".", "./", "home", "users")
HOME_NAMES += (DATA, f"{DATA}/Users", f"{DATA}/Users/mac2", "/USERS/MAC2")
NO_SYNC = {
    **dict.fromkeys(HOME_NAMES, "the user's home"),
    **dict.fromkeys((".mlx-tp", "home/.mlx-tp"), "what these tasks keep there"),
    ".mlx-tp/new": "in what these tasks keep there",
    **dict.fromkeys((".cache", "home/.cache/huggingface"), "Hugging Face's cache"),
    ".cache/huggingface/hub/models--a": "in Hugging Face's cache",
    "/tmp": "/tmp",
}


def test_what_is_never_deleted(sync: Sync, macs: Macs) -> None:
    """By any name: a link, a firmlink, a name in another case (both are mounts here)."""
    rig = macs()
    rig.fault("mac2", "other_case", "/Users/mac2")
    rig.run(
        "mac2",
        "touch ~/precious; ln -s . ~/home; ln -s /Users ~/users;"
        "mkdir -p ~/.mlx-tp ~/.cache/huggingface/hub/models--a",
    )
    rig.run("mac2", f"mkdir -p {DATA}/Users; mount --bind /Users {DATA}/Users", root=True)
    for target, what in NO_SYNC.items():
        done = sync("mac1,mac2", "--delete", to=target, code=3)
        assert re.search(rf"^(mac2|mac1): --delete in \S+ would delete {what}: ", done.err, re.M)
    assert rig.run("mac2", "ls ~").stdout.split() == ["home", "precious", "users"]
    # A folder of its own, by whatever name.
    sync("mac2", "--delete", to=f"{DATA}/Users/mac2/copy")
    sync("mac2", "--delete", to="home/copy/")
    rig.unmount("mac2", f"{DATA}/Users")
    rig.run("mac2", "rm -r /System", root=True)
    rig.heal("mac2", "other_case", "/Users/mac2")


@pytest.mark.parametrize("target", ["new/..", "..", "a/../b", "/tmp/x/..", "~/.."])
@pytest.mark.parametrize("words", [(), ("--delete",), ("--dry-run",)])
def test_no_way_up_in_a_target(sync: Sync, target: str, words: tuple[str, ...]) -> None:
    done = sync("nowhere", *words, to=target, code=2)
    assert done.one_line() == f"--target {target}: give a path without .."


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "give --source DIR, or dev.source in invoke.yaml"),
        (("--source", "."), "give --target DIR, or dev.target in invoke.yaml"),
        (("--source", "/nowhere", "--target", "x"), "--source /nowhere: no such folder here"),
        (("--source", "README.md", "--target", "x"), "--source README.md: is a file, not"),
        (("--source", ".", "--target", "a\nb"), "--target 'a\\nb': give a path on one line"),
        (("--source", ".", "--target", "~you/x"), "--target ~you/x: give a path of the node's"),
        (("--source", ".", "--target", "x", "--exclude", "[a"), "--exclude '[a': give a name"),
        (("--source", ".", "--target", "x", "--exclude", "*"), "there is nothing in it to copy"),
        (("--source", "{empty}", "--target", "x"), "there is nothing in it to copy"),
        (("--source", ".", "--target", "x", "--hosts", "a", "--hostfile", "b"), "not both"),
    ],
)  # fmt: skip
def test_wrong_use(inv: Inv, tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    require(shutil.which("rsync"), "needs rsync")
    (tmp_path / "empty").mkdir()
    given = [word.replace("{empty}", str(tmp_path / "empty")) for word in words]
    assert expected in inv("dev.sync", *given, code=2).one_line()


def test_no_rsync_here(inv: Inv, source: Path) -> None:
    inv.env["PATH"] = "/nowhere"
    done = inv("dev.sync", "--source", str(source), "--target", "x", "--hosts", "h", code=3)
    assert done.one_line() == "rsync is not installed here; nothing was changed"


def test_configured(inv: Inv, macs: Macs, source: Path, tmp_path: Path) -> None:
    """A cluster that is configured once needs no options; --exclude adds to what is configured."""
    rig = macs()
    inv.config = tmp_path / "invoke.json"
    dev = {"source": str(source), "exclude": ["large"]}
    inv.config.write_text(json.dumps({"dev": dev, "tp": {"hostfile": str(tmp_path / "h.json")}}))
    (tmp_path / "h.json").write_text(json.dumps([{"ssh": "mac1"}, {"ssh": "mac2"}]))
    inv.env["INVOKE_DEV_TARGET"] = "copy"
    inv("dev.sync", "--exclude", "sub")
    assert rig.run("mac2", "ls ~/copy").stdout == "config.json\n"
    inv("dev.sync", "--target", "elsewhere")
    assert rig.run("mac2", "cd ~/elsewhere && find . -type f | sort").stdout.split() == [
        "./config.json",
        "./sub/code.py",
    ]


# The connection: what ssh's configuration says, and no host key taken on trust.


def test_sync_over_openssh(sync: Sync, sshd: Sshd, source: Path) -> None:
    """Ports, user and key come from ~/.ssh/config, by the name that stands there."""
    done = sync("mac1,mac2", to="my copy")
    assert done.out.count("3 files there as here") == 2
    for name in sshd.names:
        assert here(sshd.node_home(name) / "my copy") == here(source)


def test_ssh_config_of_any_name(inv: Inv, sync: Sync, sshd: Sshd, tmp_path: Path) -> None:
    path = tmp_path / "my [ssh] *config* $(touch a-canary) 'x'"
    (sshd.folder / "config").rename(path)
    inv.env["INVOKE_TP_SSH_CONFIG"] = str(path)
    assert sync("mac1,mac2").out.count("3 files there as here") == 2
    assert not list(tmp_path.rglob("a-canary"))


def test_host_keys_are_checked(sync: Sync, sshd: Sshd) -> None:
    """Also where the configuration would take any key, and by rsync's own ssh."""
    config = sshd.folder / "config"
    config.write_text(config.read_text() + "Host *\n  StrictHostKeyChecking no\n")
    sshd.trust("mac1")
    done = sync("mac1,mac2", code=5)
    assert re.search(r"^not reached +mac2 .*host key is not known", done.out, re.MULTILINE)
    assert "mac2" not in (sshd.folder / "known_hosts").read_text()
    assert not (sshd.node_home("mac2") / "copy").exists()
    node = Node(Host("mac2"), SshConfig(str(config)))
    with copying.ssh_config([node]) as file:
        done = subprocess.run(["ssh", "-F", file, "mac2", "touch was-here"], capture_output=True)
    assert b"Host key verification failed" in done.stderr


def test_through_a_gateway(sync: Sync, inv: Inv, sshd: Sshd, source: Path, tmp_path: Path) -> None:
    """`gateway` of a hostfile, and ProxyJump of ssh's configuration."""
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([{"ssh": "mac2", "gateway": "mac1"}]))
    where = ("--hostfile", str(hosts), "--source", str(source))
    inv("dev.sync", *where, "--target", "by hostfile")
    assert here(sshd.node_home("mac2") / "by hostfile") == here(source)
    assert sshd.connections("mac1") == 2  # ours and rsync's
    config = sshd.folder / "config"
    text = config.read_text().replace("Host mac2\n", "Host mac2\n  ProxyJump mac1\n")
    config.write_text(text)
    sync("mac2", to="by config")
    assert here(sshd.node_home("mac2") / "by config") == here(source)
    assert sshd.connections("mac1") == 4
    # The proxy's key is checked as the node's is.
    sshd.trust("mac2")
    assert re.search(r"^not reached +mac2 ", sync("mac2", code=5).out, re.MULTILINE)


# inv dev.model on nodes.


@pytest.fixture
def model(macs: Macs, tiny: Path, inv: Inv) -> Rig:
    """Two hosts that have the tiny model in their homes."""
    rig = macs()
    for host in rig.names:
        rig.run(host, f"mkdir ~/models ~/.mlx-tp && cp -R {tiny} ~/models/tiny")
    return rig


def weighed(inv: Inv, *words: str, code: int = 0, path: str = "~/models/tiny") -> Any:
    where = ("--hosts", "mac1,mac2", "--engine", "mlx-lm", "--python", sys.executable)
    return inv("dev.model", path, *where, *words, code=code)


def test_model(inv: Inv, model: Rig, tiny: Path) -> None:
    done = weighed(inv, "--context", "1000")
    rows = re.findall(r"^(\w+) +(\w+) +(mac\d) +(.*)$", done.out, re.MULTILINE)
    checked = ("model", "complete", "divides", "fit")
    assert [row[:3] for row in rows if row[1] != "asked"] == [
        ("ok", check, host) for check in checked for host in ("mac1", "mac2")
    ]
    (asked,) = [row[3] for row in rows if row[1] == "asked"]
    assert "for the first time: the answer is kept there" in asked
    assert "for 1000 tokens) of about 384.0 GiB (macOS's default" in done.out
    table = re.findall(r"^-n (\d)  (.*)", done.out, re.MULTILINE)
    assert [number for number, _ in table] == list("12345678")
    size = (tiny / "model.safetensors").stat().st_size
    assert f"{size / 1e6:.1f} MB + 6.1 MB for 1000 tokens" in table[0][1]  # but for its header
    assert "no: 12 heads can't be divided by 8 ranks" in table[7][1]
    # The second time neither asks mlx_lm.
    report = weighed(inv, "--json").json()
    assert report["ok"] is True
    assert not [each for each in report["findings"] if each["check"] == "asked"]
    by_ranks = {row["ranks"]: row for row in report["split"]["rows"] if row["mode"] == "tensor"}
    # 4 layers x 2 x 6 of 12 heads x 16 x 4 bytes.
    assert by_ranks[2]["cache"] == [[None, 4 * 2 * 6 * 16 * 4]]
    four = weighed(inv, "-n", "4", "--json").json()
    assert "2 ranks, together " in str(four["findings"])
    # As a rank sees it: from its working directory.
    weighed(inv, "--cwd", "~/models", "-n", "2", path="tiny")


@pytest.mark.parametrize(
    ("damage", "check", "expected"),
    [
        ("rm -r ~/models/tiny", "model", "~/models/tiny is not there"),
        ("rm ~/models/tiny/config.json", "model", "config.json is missing"),
        ("echo x >>~/models/tiny/tokenizer.json", "model", "tokenizer.json differs"),
        ("cd ~/models/tiny; head -c 4000000 model.safetensors >x; mv x model.safetensors",
         "complete", "model.safetensors has 4000000 bytes, by its header 6695695"),
        ("cd ~/models/tiny; echo 'version https://git-lfs' >model.safetensors",
         "complete", "model.safetensors has no header that can be read"),
        ("""echo '{"weight_map": {"a": "model-00002-of-00002.safetensors"}}' """
         ">~/models/tiny/model.safetensors.index.json",
         "complete", "model-00002-of-00002.safetensors is missing"),
    ],
)  # fmt: skip
def test_model_that_is_broken(inv: Inv, model: Rig, damage: str, check: str, expected: str) -> None:
    model.run("mac2", damage)
    done = weighed(inv, "-n", "2", code=3)
    assert re.search(rf"^fail +{check} +mac2 +{re.escape(expected)}", done.out, re.MULTILINE)
    # The good node tells how much it is.
    assert re.search(r"^ok +complete +mac1 ", done.out, re.MULTILINE)
    # And so what a share of it takes where it is broken.
    assert re.search(r"^ok +fit +mac2 ", done.out, re.MULTILINE)


def test_model_that_does_not_fit(inv: Inv, model: Rig) -> None:
    model.set("mac2", memory_gib=8, wired_gib=1)
    tokens = str(4 * GIB // (4 * 2 * 6 * 16 * 4))  # 4 GiB of cache
    assert re.search(
        r"^ok +fit +mac2 +fits: 4.0 GiB", weighed(inv, "-n", "2", "--context", tokens).out, re.M
    )
    more = str(7 * GIB // (4 * 2 * 6 * 16 * 4))
    done = weighed(inv, "-n", "2", "--context", more)
    assert re.search(r"^warn +fit +mac2 +perhaps too much: 7.0 GiB", done.out, re.MULTILINE)
    model.set("mac2", wired_limit_mb=6000)
    done = weighed(inv, "-n", "2", "--context", more, code=3)
    assert re.search(r"^fail +fit +mac2 +too much: 7.0 GiB .* of 5.9 GiB \(iogpu", done.out, re.M)
    assert "more nodes" in done.out
    model.set("mac2", memory_gib=512)
    done = weighed(inv, "-n", "2", "--context", more, code=3)
    assert "sudo sysctl iogpu.wired_limit_mb=8192 (until it reboots)" in done.out
    model.run("mac2", "sudo -n sysctl iogpu.wired_limit_mb=8192")
    weighed(inv, "-n", "2", "--context", more)
    model.fault("mac2", "wired_leak", "510")
    done = weighed(inv, "-n", "2", "--context", more)
    assert re.search(r"^warn +fit +mac2 +not now: .*519.0 GiB are wired", done.out, re.MULTILINE)


def test_model_on_a_node_that_is_gone(inv: Inv, model: Rig) -> None:
    model.ssh_off("mac2")
    done = weighed(inv, "-n", "2", code=5)
    assert re.search(r"^fail +reachable +mac2 ", done.out, re.MULTILINE)
    assert re.search(r"^ok +fit +mac1 ", done.out, re.MULTILINE)


def test_model_that_is_nasty(inv: Inv, macs: Macs, tiny: Path, tmp_path: Path) -> None:
    rig = macs()
    path = tmp_path / NASTY_FOLDER
    shutil.copytree(tiny, path)
    weighed(inv, "-n", "2", path=str(path))
    assert_no_canary(rig)
    assert "-n" in weighed(inv, "-n", "2", path="./-n", code=3).err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--context", "0"), "--context 0: give a number of 1 or more"),
        (("--context", "x"), "--context x: give a number"),
        (("-n", "0"), "-n 0: give a number from 1"),
    ],
)
def test_wrong_use_of_model(inv: Inv, words: tuple[str, ...], expected: str) -> None:
    assert expected in inv("dev.model", "m", "--hosts", "127.0.0.1", *words, code=2).one_line()
    assert "give a model's folder" in inv("dev.model", "a\nb", code=2).one_line()


def test_copied_then_weighed(inv: Inv, macs: Macs, tiny: Path) -> None:
    """The whole loop: a model is copied to the nodes, and is whole and the same there."""
    macs()
    require(shutil.which("rsync"), "needs rsync")
    inv("dev.sync", "--source", str(tiny), "--target", "models/tiny", "--hosts", "mac1,mac2")
    assert len(re.findall(r"^ok ", weighed(inv, "-n", "2").out, re.MULTILINE)) == 9
