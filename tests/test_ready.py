"""Ready is a token of all ranks: slow loads, ranks that die, ranks that never meet."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import layout
import pytest
from conftest import DEADLINE, LOCAL, ROOT, Done, Inv, Sshd, clean_up, hostfile, processes, wait_for

WEIGHTS = 20_000_000  # bytes


@pytest.fixture
def slow(inv: Inv, home: Path) -> Iterator[Inv]:
    """`inv` whose cluster is two ranks of tests/slow_rank.py; its folder is `home / "slow"`."""
    folder, model = home / "slow", home / "model"
    folder.mkdir()
    model.mkdir()
    shutil.copy(ROOT / "tests" / "slow_rank.py", folder)
    (folder / "prepare.sh").touch()
    (model / "config.json").write_text("{}")
    tensor = {"dtype": "U8", "shape": [WEIGHTS], "data_offsets": [0, WEIGHTS]}
    header = json.dumps({"model.layers.0.w": tensor}).encode()
    with (model / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(file.tell() + WEIGHTS)
    engine = {
        "command": ["-m", "slow_rank"],
        "process": f"-m slow_rank .*{model}",
        "ready": "/v1/models",
        "prepare": f". {folder}/prepare.sh",
    }
    inv.config = home / "config.json"
    inv.config.write_text(json.dumps({"tp": {"engines": {"slow": engine}}}))
    more = {"engine": "slow", "cwd": str(folder)}
    made = hostfile(home / "hosts.json", LOCAL, model, inv.port, **more)
    inv.env["INVOKE_TP_HOSTFILE"] = str(made)
    inv.env["INVOKE_TP_COOLDOWN"] = "0"
    yield inv
    clean_up(inv)


def rank(inv: Inv, point: str, number: int, code: str) -> None:
    """Let a rank do `code` at one of its points."""
    (inv.home / "slow" / f"{point}.{number}.py").write_text(code)


def status(inv: Inv) -> Any:
    return json.loads(inv.run("tp.status", "--json").out)


def pids(inv: Inv) -> list[int]:
    return [row["pid"] for row in status(inv)["ranks"]]


def nothing_is_left(inv: Inv) -> None:
    """No process, no port, no run that is not over."""
    wait_for(lambda: not processes(inv.home))
    for port in (inv.port, inv.ring, inv.ring + 1):
        with socket.socket() as each:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", port))
    assert status(inv)["state"] == "stopped"


def failed(inv: Inv, *words: str) -> Done:
    """A start that fails with exit status 4; its last line says what was done."""
    done = inv("tp.start", *words, code=4)
    assert "Traceback" not in done.err
    nothing_is_left(inv)
    return done


def test_a_load_that_takes_longer_than_the_timeout(slow: Inv) -> None:
    """The limit does not run while bytes are read; the page is up long before."""
    (slow.home / "slow" / "slow").write_text("16")
    start = slow.start("tp.start", "--timeout", "7")
    wait_for(lambda: status(slow)["state"] == "loading")
    loads = wait_for(lambda: "%" in (found := status(slow))["why"] and found)
    assert loads["state"] == "loading"
    assert re.fullmatch(r"\d+ %, [\d.]+ MiB of 19.1 MiB per rank", loads["why"])
    _, err = start.communicate(timeout=DEADLINE)
    assert start.returncode == 0, err
    assert re.search(r"s  (still )?loading: ", err)
    assert re.search(r"^ready after \d\d\.\d s$", err, re.MULTILINE)
    assert status(slow)["state"] == "ready"


def test_a_load_of_85_seconds(slow: Inv) -> None:
    """What waits has no limit of its own; where somebody waits for the tests it is 35 s."""
    seconds = 85 if os.environ.get("MLX_TP_REQUIRE_ALL") else 35
    rank(slow, "load", 0, f"time.sleep({seconds})")
    start = slow.start("tp.start", "--skip-checks")
    wait_for(lambda: status(slow)["state"] == "loading")
    asked = [slow.start("tp.wait"), slow.start("tp.health")]
    for process in (start, *asked):
        _, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, err
    assert status(slow)["state"] == "ready"


@pytest.mark.long
@pytest.mark.parametrize("seconds", [85, 300])
def test_long_loads(slow: Inv, seconds: int) -> None:
    """With defaults everywhere."""
    rank(slow, "load", 0, f"time.sleep({seconds})")
    start = slow.start("tp.start", "--skip-checks")
    wait_for(lambda: status(slow)["state"] == "loading")
    asked = [slow.start("tp.wait"), slow.start("tp.health")]
    for process in (start, *asked):
        _, err = process.communicate(timeout=seconds + DEADLINE)
        assert process.returncode == 0, err
    before = pids(slow)
    restart = slow.start("tp.restart")
    _, err = restart.communicate(timeout=seconds + DEADLINE)
    assert restart.returncode == 0, err
    between = pids(slow)
    watch = slow.start("tp.watch", "--restart", "--max-restarts", "1", stdout=subprocess.DEVNULL)
    time.sleep(5)
    os.kill(between[1], signal.SIGKILL)
    wait_for(lambda: not {*before, *between} & {*pids(slow)} and status(slow)["state"] == "loading")
    wait_for(lambda: status(slow)["state"] == "ready", seconds + DEADLINE, 1)
    assert watch.poll() is None
    watch.kill()
    watch.communicate()


def test_an_engine_that_dies_while_all_ranks_live(slow: Inv) -> None:
    """As mlx_lm.server's does where a load finds no memory: it was waited for without end."""
    (slow.home / "slow" / "engine_died").touch()
    rank(slow, "load", 1, "time.sleep(30)")
    last = failed(slow).err.splitlines()[-1]
    assert "the server's engine died (loading" in last
    assert "generation thread died" in last


DIE = "print('RuntimeError: no more', flush=True); os._exit(7)"


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("point", ["load", "prompt"])
def test_a_rank_that_dies(slow: Inv, point: str, number: int) -> None:
    """While it loads, and at the first prompt: the page has long been up."""
    rank(slow, point, number, DIE)
    done = failed(slow)
    assert f"rank {number}, first error: RuntimeError: no more" in done.err
    # It is said before the others are stopped, which may take a while, and at the end.
    died = f"rank {number} on 127.0.0.1 died: exit status 7"
    first, last = (line for line in done.err.splitlines() if died in line)
    assert first.endswith(": stopping the other ranks")
    assert last.endswith("; the other ranks were stopped")


@pytest.mark.parametrize("number", [0, 1])
def test_a_rank_that_dies_while_joining(slow: Inv, number: int) -> None:
    """The other one is held up before it is there."""
    prepare = slow.home / "slow" / "prepare.sh"
    prepare.write_text(f'[ "$MLX_RANK" = {number} ] || sleep 300')
    start = slow.start("tp.start")
    marks = wait_for(lambda: [*slow.home.rglob(f"rank-{number}.marks")])[0]
    wait_for(lambda: "meeting" in marks.read_text())
    assert status(slow)["state"] == "starting"
    assert "still import" in status(slow)["why"]
    os.kill(pids(slow)[number], signal.SIGKILL)
    _, err = start.communicate(timeout=DEADLINE)
    assert start.returncode == 4, err
    assert f"rank {number} on 127.0.0.1 died: killed by SIGKILL" in err.splitlines()[-1]
    nothing_is_left(slow)


@pytest.mark.parametrize("number", [0, 1])
def test_a_peer_that_never_comes(slow: Inv, number: int) -> None:
    """It is named a second after tp.join_timeout."""
    slow.env["INVOKE_TP_JOIN_TIMEOUT"] = "3"
    prepare = slow.home / "slow" / "prepare.sh"
    prepare.write_text(f'[ "$MLX_RANK" != {number} ] || sleep 300')
    last = failed(slow).err.splitlines()[-1]
    late = f"rank {number} on 127.0.0.1 did not come to meet the others within tp.join_timeout"
    assert late in last


def test_a_backend_that_this_mlx_lacks(remote: Inv) -> None:
    """Where the checks are skipped each rank says so itself, and ends."""
    file = Path(remote.env["INVOKE_TP_HOSTFILE"])
    data = json.loads(file.read_text())
    rows = [[None, "rdma_en1"], ["rdma_en1", None]]
    data["hosts"] = [{**host, "rdma": row} for host, row in zip(data["hosts"], rows, strict=True)]
    file.write_text(json.dumps(data))
    done = remote("tp.start", "--skip-checks", "--backend", "jaccl", code=4)
    said = r"rank 0, first error: MLX 0\.\d+\.\d+ of \S+ has no backend jaccl"
    assert re.search(said, done.err)
    assert remote("tp.status").out.startswith("stopped")


def test_a_rank_that_dies_after_ready(slow: Inv) -> None:
    slow("tp.start")
    for number in (0, 1):
        os.kill(pids(slow)[number], signal.SIGKILL)
        found = wait_for(lambda: (s := status(slow))["state"] in ("degraded", "dead") and s)
        assert f"rank {number} on 127.0.0.1 (killed by SIGKILL)" in found["why"]
        assert slow.run("tp.status").code == 3
        slow("tp.restart")
        assert status(slow)["state"] == "ready"
    slow("tp.stop")
    nothing_is_left(slow)


@pytest.mark.parametrize("code", [503, 404])
def test_a_page_that_refuses_while_it_loads(slow: Inv, code: int) -> None:
    (slow.home / "slow" / "status").write_text(str(code))
    (slow.home / "slow" / "slow").write_text("3")
    slow("tp.start")
    assert status(slow)["state"] == "ready"


def test_an_engine_without_an_entry(light: Inv) -> None:
    folder = light.home / "light"
    (folder / "load.shut").touch()
    start = light.start("tp.start")
    wait_for((folder / "load.1.arrived").exists)
    assert light("tp.status").out.startswith("loading  group size not checked")
    (folder / "load.shut").unlink()
    assert start.wait(DEADLINE) == 0
    start.communicate()


def test_one_rank_that_is_done_lets_the_others_finish(slow: Inv) -> None:
    """As mlx.launch does, with --foreground."""
    rank(slow, "load", 1, "time.sleep(1); sys.exit(0)")
    rank(slow, "load", 0, "time.sleep(8); print('finished', flush=True); sys.exit(0)")
    done = slow("tp.start", "--foreground")
    assert "rank 0 | finished" in done.out
    nothing_is_left(slow)


def test_fewer_ranks(slow: Inv) -> None:
    """tp.restart -n 1 over two stops both; what it then has is kept by the next."""
    slow("tp.start")
    both = pids(slow)
    slow("tp.restart", "-n", "1")
    (alone,) = pids(slow)
    assert not [pid for pid in both if Path(f"/proc/{pid}").exists()]
    slow("tp.restart", "--fast-synch", "on")
    assert len(pids(slow)) == 1
    assert alone not in pids(slow)
    found = layout.record(slow.home / layout.STATE)
    assert (found["size"], found["fast_synch"]) == (1, "on")
    assert "MLX_METAL_FAST_SYNCH on" in slow("tp.status").out


def test_values_that_are_kept(slow: Inv) -> None:
    """With tp.keep_env: for this user alone, used in place, in no output, gone with a stop."""
    slow.env["INVOKE_TP_KEEP_ENV"] = "true"
    slow.env["INVOKE_TP_KEEP_LOGS"] = "0"
    texts = [slow("tp.start", "--env", "TOKEN=s3cret '\n x")]
    (kept, *_) = slow.home.rglob("rank-*.env/TOKEN")
    assert kept.read_text() == "s3cret '\n x"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    texts.append(slow("tp.restart"))
    environ = Path(f"/proc/{pids(slow)[1]}/environ").read_bytes()
    assert b"TOKEN=s3cret '\n x\0" in environ
    texts += [slow("tp.status", "--json"), slow("tp.restart", "--dry-run"), slow("tp.stop")]
    assert not any("s3cret" in done.out + done.err for done in texts)
    assert not [*slow.home.rglob("rank-*.env")]
    assert "TOKEN" in slow("tp.restart", code=2).one_line()


def test_ctrl_c_while_the_token_is_awaited(slow: Inv) -> None:
    """The request that waits keeps nobody: the server is left, and the command ends."""
    rank(slow, "load", 0, "time.sleep(600)")
    start = slow.start("tp.start", "--skip-checks")
    wait_for(lambda: status(slow)["state"] == "loading")
    start.send_signal(signal.SIGINT)
    _, err = start.communicate(timeout=DEADLINE)
    assert start.returncode == 130
    assert "the server is left as it is" in err
    assert status(slow)["state"] == "loading"
    slow("tp.stop")
    nothing_is_left(slow)


def test_a_restart_is_of_what_ran(slow: Inv, tmp_path: Path) -> None:
    """With its log folder, Python and folder; what would fail is found while it still serves."""
    logs = tmp_path / "own logs"
    more = ("--log-dir", str(logs), "--cwd", str(slow.home / "slow"))
    slow("tp.start", *more, "--env", f"PYTHONPATH={':'.join(filter(None, sys.path))}")
    before = pids(slow)
    refused = slow("tp.restart", "--python", "/usr/bin/false", "--env", "PYTHONPATH=", code=3)
    assert "versions" in refused.err
    assert pids(slow) == before
    slow("tp.restart", "--env", f"PYTHONPATH={':'.join(filter(None, sys.path))}")
    found = layout.record(slow.home / layout.STATE)
    assert (found["log_dir"], found["cwd"]) == (str(logs), str(slow.home / "slow"))
    assert not {*before} & {*pids(slow)}
    assert (logs / "tp_server.rank0.log.1").exists()


def test_a_host_that_the_hostfile_names_no_longer(light_remote: Inv, sshd: Sshd) -> None:
    """Its rank is an orphan of nobody: the record on the other host names it."""
    light_remote("tp.start")
    file = light_remote.home / "hosts.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "hosts": data["hosts"][:1]}))
    shown = light_remote("tp.status").out
    assert "mac2" in shown
    done = light_remote("tp.stop")
    assert re.search(r"^stopped +mac2 +rank 1", done.out, re.MULTILINE)
    wait_for(lambda: not processes(sshd.node_home("mac2")))


def test_dead_engine_behind_a_green_page(slow: Inv) -> None:
    """Rank 1 stopped: the page is green, and no token comes, since that takes all ranks."""
    slow("tp.start")
    second = pids(slow)[1]
    os.kill(second, signal.SIGSTOP)
    try:
        failed = slow("tp.health", "--timeout", "3", code=3)
        assert "no answer in time" in failed.one_line()
        stopped = slow("tp.stop", "--force")
        assert re.search(r"^killed +127.0.0.1", stopped.out, re.MULTILINE)
        assert "what it has wired may stay so until a reboot" in stopped.err
        assert "cooldown" not in stopped.err  # which a ring does not need
        assert slow("tp.cooldown", "--dry-run").out == ""
        killed = r"SIGKILL to rank [01](, rank [01])?: --force\tdone"
        assert re.search(killed, (slow.home / layout.STATE / "audit.log").read_text())
    finally:
        with suppress(ProcessLookupError):
            os.kill(second, signal.SIGKILL)
