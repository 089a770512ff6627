"""What nodes are sent for a start: in which order, what each rank gets, and what is shown of it."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.cluster import cluster as clusters
from tasks.cluster.errors import ActionFailed, CheckFailed, Unreachable
from tasks.cluster.server import fence, launch, snapshots
from tasks.cluster.server.launch import ALREADY, Run
from tasks.cluster.ssh import nodes, scripts
from tasks.cluster.ssh.node import CommandResult
from tasks.cluster.version import WRITER

RUN = Run("20261130T120000ab12cd34", "ada@desk", 5.0)
HOSTS = [{"ssh": f"mac{n}", "ips": [f"10.0.0.{n}"]} for n in (1, 2, 3)]
MESH = [
    {**host, "rdma": [None if i == j else f"rdma_en{j}" for j in range(3)]}
    for i, host in enumerate(HOSTS)
]


@pytest.fixture
def built(tmp_path: Path) -> Any:
    """`built(hosts, **settings)`: the cluster of a hostfile with these hosts."""

    def build(hosts: Any, backend: str = "ring", args: Any = (), **settings: Any) -> Any:
        path = tmp_path / "hosts.json"
        path.write_text(json.dumps(hosts))
        return clusters.build(
            {"engine": "mlx-lm", **settings}, list(args), hostfile=str(path), backend=backend
        )

    return build


def marks_of(script: str) -> list[str]:
    """The ranks that a script starts, in their order."""
    return re.findall(r"^rank=(\d+)$", script, re.MULTILINE)


def test_rank_0_comes_first(built: Any) -> None:
    """Then each other node gets all of its ranks in one script; a node without any gets none."""
    mine = built(HOSTS)
    again = replace(mine.ranks[0], rank=3, host=mine.ranks[2].host)
    mine = replace(mine, ranks=[*mine.ranks, again])
    assert marks_of(launch.first_script(mine, RUN)) == ["0"]
    others = launch.other_scripts(mine, RUN)
    assert {name: marks_of(text) for name, text in others.items()} == {
        "mac2": ["1"],
        "mac3": ["2", "3"],
    }


def test_a_ring_gives_rank_0_a_head_start(built: Any) -> None:
    """One alone waits for nobody."""
    assert launch.first_script(built(HOSTS), RUN).endswith("\nsleep 0.2\n")
    assert "sleep 0.2\n" not in launch.first_script(built(HOSTS[:1]), RUN)


@pytest.mark.parametrize("backend", ["jaccl", "jaccl-ring"])
def test_jaccl_waits_until_rank_0_listens(built: Any, backend: str) -> None:
    """At its coordinator's port, for a minute: a look takes 0.2 s."""
    text = launch.first_script(built(MESH, backend, starting_port=41000), RUN)
    assert "port=41000\n" in text
    assert "looks=300\n" in text
    assert not text.endswith("\nsleep 0.2\n")


def test_all_others_start_at_once(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After rank 0's script has ended; each node is asked once."""
    sent: list[Any] = []

    def sh(where: Any, texts: Any, timeout: float = 30) -> dict[str, CommandResult]:
        sent.append(([node.name for node in where], sorted(texts), timeout))
        return {name: CommandResult(name, status=0) for name in texts}

    mine = built(HOSTS)
    monkeypatch.setattr(nodes, "sh", sh)
    monkeypatch.setattr(snapshots, "align", sent.append)
    launch.launch(mine, RUN)
    assert sent == [
        mine,
        (["mac1"], ["mac1"], 90),  # in which its coordinator has 60 to listen
        (["mac1", "mac2", "mac3"], ["mac2", "mac3"], 30),
    ]


FAILED = [
    (CommandResult("mac1", failure="gone", remedy="try"), Unreachable, "^mac1: gone: try$"),
    (CommandResult("mac1", failure="gone"), Unreachable, "^mac1: gone$"),
    (
        CommandResult("mac1", err="rank 1 already runs\n", status=ALREADY), CheckFailed,
        "^mac1: rank 1 already runs$",
    ),
    (
        CommandResult("mac1", err="no\x1b[1m room\n", status=1), ActionFailed,
        r"^mac1: no rank started there \(exit status 1\): no room$",
    ),
    (CommandResult("mac1", out="nologin\n", status=1), ActionFailed, "status 1.: nologin"),
    (CommandResult("mac1", status=3), ActionFailed, r"exit status 3\): no reason given$"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "error", "says"), FAILED)
def test_what_keeps_a_rank_from_being_started(
    built: Any, monkeypatch: pytest.MonkeyPatch, answer: Any, error: type[Exception], says: str
) -> None:
    """Is told, and no other rank is begun."""
    asked: list[Any] = []
    monkeypatch.setattr(snapshots, "align", asked.append)

    def sh(*_: Any) -> dict[str, Any]:
        asked.append("sh")
        return {"mac1": answer}

    monkeypatch.setattr(nodes, "sh", sh)
    with pytest.raises(error, match=says):
        launch.launch(built(HOSTS), RUN)
    assert asked[1:] == ["sh"]


def test_secrets_are_shown_to_nobody(built: Any) -> None:
    """A dry run shows MLX's own variables, and names of the others; the node gets all values."""
    mine = built(HOSTS, env=["KEY=hush", "MLX_X=quiet"])
    real, shown = (launch.background(mine, mine.ranks[1:2], RUN, mask) for mask in (False, True))
    for text, seen in ((real, True), (shown, False)):
        assert ("KEY=hush" in text) is seen
        assert ("MLX_X=quiet" in text) is seen
        assert "MLX_RANK=1" in text
    assert "KEY=***" in shown
    rank = mine.ranks[1]
    for mask, word in ((False, "KEY=hush"), (True, "KEY=***")):
        others = launch.other_scripts(mine, RUN, mask)["mac2"]
        for text in (others, launch.foreground(mine, rank, RUN, mask)):
            assert word in text
            assert "MLX_RANK=1" in text
        assert word in launch.first_script(mine, RUN, mask)
    assert "KEY=hush" in launch.first_script(mine, RUN)
    assert "KEY=hush" in launch.other_scripts(mine, RUN)["mac2"]
    assert "KEY=hush" in launch.foreground(mine, rank, RUN)
    (record,) = launch._node(mine, "mac2", RUN).split("record=")[1:]
    assert '"env": ["KEY", "MLX_X"]' in record.replace("\\", "")
    assert "hush" not in record


def test_what_is_recorded(built: Any) -> None:
    mine = built(HOSTS, log_dir="/logs/", cwd="/srv", args=["--port", "8100"])
    found = launch.record(mine, mine.ranks[2], RUN, "/logs/x")
    assert (found.run, found.rank, found.size, found.host) == (RUN.id, 2, 3, "mac3")
    assert (found.by, found.started, found.log) == ("ada@desk", 5.0, "/logs/x")
    assert (found.port, found.backend, found.engine) == (8100, "ring", "mlx-lm")
    assert (found.cwd, found.log_dir) == ("/srv", "/logs/")
    assert found.hosts == ["mac1", "mac2", "mac3"]
    assert found.ports == [*mine.ranks[2].ports]
    assert (found.entry, found.fast_synch, found.env) == (True, "unset", [])
    assert found.command[found.command.index("--port") :][:2] == ["--port", "8100"]


def test_what_is_recorded_of_the_server(built: Any) -> None:
    words = {"args": ["--model", "/m/K", "--host", "0.0.0.0"], "env": ["KEY=x"]}
    mine = built(HOSTS, keep_env=True, **words)
    found = launch.record(mine, mine.ranks[0], RUN, None)
    assert (found.model, found.bind, found.served) == ("/m/K", "0.0.0.0", "K")
    assert found.keeps_env
    assert found.ready == mine.engine.ready
    slow = replace(mine.ranks[0], env={**mine.ranks[0].env, "MLX_METAL_FAST_SYNCH": "1"})
    assert launch.record(mine, slow, RUN, None).fast_synch == "on"
    assert launch.record(built(HOSTS), mine.ranks[0], RUN, None).model == ""


Sent = dict[str, tuple[list[str], dict[str, Any]]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """The words and values with which each file is sent."""
    found: Sent = {}

    def script(name: str, words: Any = (), after: str = "", **values: Any) -> str:
        found[name] = [*words], values
        return ""

    monkeypatch.setattr(scripts, "script", script)
    return found


LIGHT = {"engine": "light", "engines": {"light": {"command": ["/l.py"], "ready": "/"}}}


@pytest.mark.parametrize("engine", [{}, LIGHT], ids=["mlx-lm", "light"])
def test_what_a_node_is_told(built: Any, sent: Sent, engine: Any) -> None:
    """The run and its ranks there, and what is to be done beside; programs that a rank needs."""
    mine = replace(built(HOSTS, keep_logs=4, **engine), recalled=("old", ["A", "B"]))
    launch.background(mine, mine.ranks[1:2], RUN)
    _, told = sent["launch/node.sh"]
    kept = json.loads(told.pop("record"))
    assert kept["run"] == RUN.id
    assert [(each["rank"], each["host"], each["log"]) for each in kept["ranks"]] == [
        (1, "mac2", f"~/.mlx-tp/default/runs/{RUN.id}/rank-1.log")
    ]
    programs = [told.pop(name) for name in ("entry", "served", "score")]
    entry = f"# {WRITER}\n{scripts.text('entry.py')}"
    whole = [entry, scripts.text("served.py"), scripts.text("score.py")]
    assert programs == (["", "", ""] if engine else whole)
    assert told == {
        **mine.where, **fence.values(mine), "run": RUN.id, "who": "ada@desk", "already": ALREADY,
        "keep_runs": 4, "spare": "old",
    }  # fmt: skip


@pytest.mark.parametrize("log_dir", [None, "/logs"])
def test_what_a_rank_is_told(built: Any, sent: Sent, log_dir: str | None) -> None:
    words = {"cwd": "/srv", "keep_env": True, "env": ["A=1", "B=2"]}
    mine = built(HOSTS, keep_logs=4, log_limit=3, log_dir=log_dir, **words)
    mine = replace(mine, recalled=("old", ["A", "B"]))
    rank = mine.ranks[1]
    launch.background(mine, [rank], RUN)
    _, told = sent["launch/background.sh"]
    assert told == {
        "rank": 1, "python": rank.command[0], "cwd": "/srv", "prepare": mine.engine.prepare,
        "detach": scripts.text("launch/detach.py"), "rdma": "", "keep_env": "A B",
        "env_of": "old", "recalled": "A B", "log": "/logs/tp_server.rank1.log" if log_dir else "",
        "link": "" if log_dir else "/tmp/tp_server.rank1.log", "begins": "# mlx-tp run=",
        "header": launch.header(RUN, rank), "rotate": scripts.text("launch/rotate.py"), "keep": 4,
        "cap": scripts.text("launch/cap.py"), "limit": 3_000_000,
    }  # fmt: skip
    launch.background(built(MESH, "jaccl"), [replace(rank, cwd=None)], RUN)
    _, told = sent["launch/background.sh"]
    assert (told["rdma"], told["cwd"]) == ("1", "")


def test_a_rank_s_words(built: Any, sent: Sent) -> None:
    """Its files, its environment with its mark, its arguments."""
    mine = built(HOSTS, **LIGHT, env=["KEY=x"])
    rank = replace(
        mine.ranks[1], files={"MLX_HOSTFILE": "[]"}, env={"MLX_HOSTFILE": "f", "KEY": "x"}
    )
    launch.background(mine, [rank], RUN)
    words, _ = sent["launch/background.sh"]
    marked = f"MLX_TP_RANK_OF={RUN.id}.1"
    assert words == ["MLX_HOSTFILE", "[]", "--", "KEY=x", marked, "--", *rank.command[1:]]


def test_where_logs_are(built: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the run's folder with a known name that leads there, or in a folder of the user's."""
    mine = built(HOSTS)
    assert launch.log_path(mine, mine.ranks[1], RUN.id) == (
        f"~/.mlx-tp/default/runs/{RUN.id}/rank-1.log"
    )
    assert "link=/tmp/tp_server.rank1.log\n" in launch.background(mine, mine.ranks[1:2], RUN)
    own = built(HOSTS, log_dir="logs/", cluster="big")
    assert launch.log_path(own, own.ranks[1], RUN.id) == "logs/tp_server.rank1.log"
    text = launch.background(own, own.ranks[1:2], RUN)
    assert "link=''\n" in text
    assert "log=logs/tp_server.rank1.log\n" in text
    assert (launch.link(own), launch.link(own, 2)) == (
        "tp_server.big.log",
        "tp_server.big.rank2.log",
    )
    # Here it counts from where we are: the rank may begin elsewhere.
    monkeypatch.chdir(tmp_path)
    here = built([{"ssh": "localhost"}], log_dir="logs")
    assert launch.log_path(here, here.ranks[0], RUN.id) == os.path.abspath(
        "logs/tp_server.rank0.log"
    )


def test_a_log_s_first_line(built: Any) -> None:
    line = launch.header(RUN, built(HOSTS).ranks[1])
    assert line == "# mlx-tp run=20261130T120000ab12cd34 rank=1 host=mac2 by=ada@desk"


def test_what_the_entry_is_told(built: Any) -> None:
    """By variables that it takes out again; other models only where that is wanted."""
    mine = built(HOSTS, args=["--model", "/m/Kimi-4bit"], join_timeout=61.5)
    told = launch._entry(mine)
    names = json.loads(told.pop("NAMES"))
    assert names[0] == "Kimi-4bit"
    assert told == {"BACKEND": "ring", "SIZE": "3", "LIMIT": "61.5", "MODEL": "/m/Kimi-4bit"}
    assert "MLX_TP_ENTRY_SIZE=3" in launch.background(mine, mine.ranks[:1], RUN)
    assert launch._entry(built(HOSTS, args=["--model=/m/K"], other_models=True))["OTHERS"] == "1"
    bare = launch._entry(built(HOSTS))
    assert (bare["MODEL"], "NAMES" in bare) == ("", False)


def test_values_that_a_next_start_may_use(built: Any) -> None:
    mine = built(HOSTS, env=["KEY=hush"], keep_env=True)
    assert "keep_env=KEY\n" in launch.background(mine, mine.ranks[:1], RUN)
    assert "keep_env=''\n" in launch.background(built(HOSTS, env=["K=1"]), mine.ranks[:1], RUN)


def test_runs_sort_by_their_age() -> None:
    first, second = Run.new(), Run.new()
    assert time.time() - 60 < first.started <= time.time()
    assert first.id[:15] == time.strftime("%Y%m%dT%H%M%S", time.gmtime(first.started))
    assert re.fullmatch(r"\d{8}T\d{6}[0-9a-f]{8}", first.id)
    assert first.id[:15] <= second.id[:15]
    assert first.id != second.id
    assert first.by == launch.who()
    assert re.fullmatch(r"[^@]+@.+", first.by)


def test_in_the_foreground(built: Any) -> None:
    """Its output is ours: there is no log to be recorded."""
    mine = built(HOSTS)
    text = launch.foreground(mine, mine.ranks[1], RUN)
    assert marks_of(text) == ["1"]
    assert '"log": null' in text
    assert "cap=" not in text
    assert "MLX_RANK=1" in text
