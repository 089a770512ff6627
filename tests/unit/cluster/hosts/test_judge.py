"""Each judge of hosts.selftest: what is as we take it, what differs, what is not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.cluster.facts import Fact, Key, NodeFacts, Unknown
from tasks.cluster.hosts import selftest
from tasks.cluster.hosts.judge import ASSUMPTIONS, DIFFERS, NOT_HERE, OK, SelftestRow, judge
from tasks.cluster.hosts.said import ASSUMED, Raw

DATA = Path(__file__).parents[3] / "data" / "macos"
BOOT = "5B2F0000-0000-4000-8000-000000000001"
BACKENDS = '{"backends": {"ring": true, "jaccl": true, "nccl": false, "mpi": false}, "ps": true}'
# A Mac as mac.md has it: section of selftest.sh -> what was said.
MAC = {
    "system": "26.3\nDarwin",
    "mine": "user me",
    "ifconfig": "addm 1\ndeletem 1\ndeletemember 0",
    "echo": "a\nb",
    "rsync": "openrsync: protocol version 29\n<selftest><a><b c><--server>",
    "nc": "\t-G conntimo   Connection timeout in seconds\n\t-w secs  x\n\t-z   Zero-I/O mode",
    "names": "ignored",
    "environment": "LC=sent\nany=",
    "path": "/usr/bin:/bin:/usr/sbin:/sbin",
    "stat": "-f 2",
    "boot": BOOT,
    "tmp": "private/tmp",
    "python": BACKENDS,
}


def text(said: dict[str, str]) -> str:
    return "".join(f"\n== {name}\n{each}\n" for name, each in said.items()) + "\n== end\n"


def rows(
    raws: dict[str, object], wanted: dict[str, Fact[Any]] | None = None
) -> dict[str, SelftestRow]:
    base = {"memory": Raw((DATA / "memory.txt").read_text(), 0)}
    base["ibv_devinfo"] = Raw((DATA / "ibv_devinfo.txt").read_text(), 0)
    base["thunderbolt"] = Raw((DATA / "system_profiler.json").read_text(), 0)
    values = {Key[object](name): value for name, value in {**base, **raws}.items()}
    return {row.what: row for row in judge(wanted or {}, NodeFacts("mac1", values))}


def states(**changed: str) -> dict[str, tuple[str, str]]:
    found = rows({ASSUMED.name: Raw(text({**MAC, **changed}), 0)})
    return {what: (row.state, row.found) for what, row in found.items()}


def test_a_mac_as_we_take_it() -> None:
    found = states()
    assert {state for state, _ in found.values()} == {OK}
    assert {what for what, _, _ in ASSUMPTIONS} < found.keys()


WRONG = [
    ("ifconfig: addm, deletem", "ifconfig", "addm 1\ndeletem 0\ndeletemember 1", "deletem 0"),
    ("ifconfig: addm, deletem", "ifconfig", "", "nothing was said"),
    ("sh: echo", "echo", "a\\nb", "prints backslashes"),
    ("sh: echo", "echo", "", "nothing was said"),
    ("rsync: --rsync-path", "rsync", 'openrsync: protocol\n<s><a "b c">', "openrsync: <s><a"),
    ("rsync: --rsync-path", "rsync", "rsync  version 3.5.0  x\n<s><a><b><c>", "rsync 3.5.0: <s>"),
    ("rsync: --rsync-path", "rsync", "", "there is no rsync"),
    ("nc: -G, -w, -z", "nc", "\t-w secs\n\t-z  x", "-w secs"),
    ("mlx: backends", "python", BACKENDS.replace('"jaccl": true', '"jaccl": false'), "no jaccl"),
    ("mlx: backends", "python", "Traceback\nImportError: x", "the python says: ImportError: x"),
    ("mlx: backends", "python", "[" * 9999, "the python says"),
    ("environments (ps -E)", "python", BACKENDS.replace('"ps": true', '"ps": false'), "not shown"),
    ("file names", "names", "", "nothing was said"),
    ("sshd: AcceptEnv", "environment", "", "nothing was said"),
    ("PATH without a terminal", "path", "/opt/bin:/bin", "no /usr/bin in /opt/bin:/bin"),
    ("stat", "stat", "-c 2", "takes -c"),
    ("stat", "stat", "", "takes neither"),
    ("kern.bootsessionuuid", "boot", "", "nothing was said"),
    ("/tmp is a link", "tmp", "", "nothing was said"),
]


@pytest.mark.parametrize(("what", "section", "said", "found"), WRONG)
def test_what_differs(what: str, section: str, said: str, found: str) -> None:
    states_of = states(**{section: said})
    assert states_of[what][0] == DIFFERS
    assert states_of[what][1].startswith(found) or found in states_of[what][1]


RIGHT = [
    ("rsync: --rsync-path", {"rsync": 'rsync  version 2.6.9  protocol\n<s><a "b c"><--server>'}),
    ("file names", {"names": "minded"}),
    ("sshd: AcceptEnv", {"environment": "LC=\nany="}),
    ("/tmp is a link", {"tmp": "/private/tmp"}),
]


@pytest.mark.parametrize(("what", "said"), RIGHT)
def test_what_will_do_as_well(what: str, said: dict[str, str]) -> None:
    assert states(**said)[what][0] == OK


def test_linux() -> None:
    found = states(
        system="Linux",
        rsync="",
        environment="LC=\nany=local",
        stat="-c 2",
        python='{"backends": {}, "ps": null}',
    )
    here = {what for what, (state, _) in found.items() if state == OK}
    assert here.issuperset({"sh: echo", "stat", "PATH without a terminal"})
    assert found["mlx: backends"] == (NOT_HERE, "this python has no mlx")
    assert found["nc: -G, -w, -z"][0] == found["rsync: --rsync-path"][0] == NOT_HERE
    assert found["sshd: AcceptEnv"][0] == NOT_HERE
    assert DIFFERS not in {state for state, _ in found.values()}


def number(said: str, status: int) -> int:
    if status:
        raise ValueError("no number")
    return int(said)


@pytest.mark.parametrize(
    ("said", "system", "state", "found"),
    [
        (Raw("3\n", 0), "26.3\nDarwin", OK, "the parser takes it"),
        (Raw("x\ny", 1), "26.3\nDarwin", DIFFERS, "no number: y"),
        (Raw("", 127), "26.3\nDarwin", DIFFERS, "no number"),
        (Raw("", 127), "Linux", NOT_HERE, "a command of macOS"),
        (Raw("sh: x: not found", 1), "Linux", NOT_HERE, "a command of macOS"),
        (Raw("x: No such file or directory", 1), "26.3\nDarwin", NOT_HERE, "there is no such file"),
        (Unknown("it gave no answer in time"), "Linux", DIFFERS, "it gave no answer in time"),
    ],
)
def test_facts(said: object, system: str, state: str, found: str) -> None:
    fact = Fact(Key[int]("number"), "true", number)
    told = {"number": said, ASSUMED.name: Raw(text({**MAC, "system": system}), 0)}
    row = rows(told, {"number": fact})["number"]
    assert (row.state, row.found) == (state, found)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("Pages wired down:", "Wired:"), "vm_stat: labels"),
        (("1310720.", "1310720"), "vm_stat: labels"),
        (("page size of", "pages of"), "vm_stat: units"),
    ],
)
def test_vm_stat(change: tuple[str, str], what: str) -> None:
    said = Raw((DATA / "memory.txt").read_text().replace(*change), 0)
    assert rows({"memory": said, ASSUMED.name: Raw(text(MAC), 0)})[what].state == DIFFERS


@pytest.mark.parametrize(
    ("file", "change", "what", "found"),
    [
        (
            "system_profiler.json",
            ("domain_uuid_key", "domain_key"),
            "system_profiler: keys",
            "no domain_uuid_key",
        ),
        (
            "system_profiler.json",
            ("80 Gb/s", "80 Gbit/s"),
            "system_profiler: keys",
            "a speed of 80 Gbit/s",
        ),
        ("ibv_devinfo.txt", ("max_pd", "pds"), "ibv_devinfo: form", "rdma_en2 has no max_pd"),
        ("ibv_devinfo.txt", ("GID[", "GUID["), "ibv_devinfo: form", "rdma_en2 has no GID"),
    ],
)
def test_forms(file: str, change: tuple[str, str], what: str, found: str) -> None:
    said = Raw((DATA / file).read_text().replace(*change), 0)
    name = {"system_profiler.json": "thunderbolt"}.get(file, "ibv_devinfo")
    row = rows({name: said, ASSUMED.name: Raw(text(MAC), 0)})[what]
    assert (row.state, row.found) == (DIFFERS, found)


def test_a_host_that_stopped_half_way() -> None:
    """What was not asked is never ok."""
    for said in (Unknown("the node did not answer in time"), Raw("== system\nLinux\n", 0)):
        found = rows({ASSUMED.name: said})
        assert {found[what].state for what, _, _ in ASSUMPTIONS} <= {DIFFERS}


def test_every_fact_is_asked() -> None:
    wanted = selftest.wanted("python3", None, "~/.mlx-tp")
    known = {"memory", "ibv_devinfo", "thunderbolt", "routes", "versions", "state", "vitals"}
    assert known < wanted.keys()
    # Facts are listed, so a new module is too: each has one here.
    from tasks.cluster import facts

    modules = {path.stem for path in Path(facts.__path__[0]).rglob("[!_]*.py")}
    asked = {fact.parse.__module__.rpartition(".")[2] for fact in wanted.values()}
    # A loop (the fact of it is made here), what `state` parses, and what facts are put into.
    assert modules - asked <= {"vitals", "marks", "snapshot"}
