"""What is asked and measured of a server that runs: tp.chat, tp.bench, tp.top."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layout
import pytest
from conftest import DEADLINE, Inv, Sshd
from rig import Rig
from test_injection import ORDERS, server

from tasks.cluster.facts.machine import vitals
from tasks.cluster.facts.machine.memory import Memory
from tasks.cluster.http import api as apis
from tasks.cluster.http import load
from tasks.cluster.version import VERSION
from tasks.commands.tp import top as topping

STREAMS = [
    (b"", "broke off"),
    (b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n', "broke off"),
    (b"data: nonsense\n\n", "no completion"),
    (b"data: [1]\n\n", "no completion"),
    (b'data: {"choices": 5}\n\n', "no completion"),
    (b'data: {"choices": [{"delta": "x"}]}\n\n', "no completion"),
    (b'data: {"choices": [], "usage": [1]}\n\n', "broke off"),
    (b'data: {"error": "\x1b[31mbad"}\n\n', "the server said: bad"),
    (b'data: {"error": "out of memory"}\n\n', "the server said: out of memory"),
    (b"data: " + b"[" * 100_000 + b"\n\n", "no completion"),
    (b"<html>", "broke off"),
]


def pieces(api: apis.Api) -> list[apis.Piece]:
    return list(api.stream("m", [{"role": "user", "content": "Hi"}], 5))


@pytest.mark.parametrize(("body", "says"), STREAMS)
def test_a_stream_of_another_shape(body: bytes, says: str) -> None:
    with server(body=body) as (api, _), pytest.raises(apis.ApiError, match=says) as error:
        pieces(api)
    assert not ORDERS.search(str(error.value))


def test_a_stream() -> None:
    """Comments keep it alive, thoughts come apart, and the server's counts are taken."""
    body = (
        b': keepalive 1/2\n\ndata: {"choices": [{"delta": {"reasoning": "hm"}}]}\r\n\r\n'
        b'data: {"choices": [{"delta": {"content": "\xc3\xa4"}, "finish_reason": "stop"}]}\n\n'
        b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2,'
        b' "prompt_tokens_details": {"cached_tokens": 3}}}\n\ndata: [DONE]\n\n'
    )
    with server(body=body) as (api, _):
        thought, text, end = pieces(api)
    assert (thought.thought, text.text, text.finish) == ("hm", "ä", "stop")
    assert end.usage == {"prompt_tokens": 7, "completion_tokens": 2, "cached_tokens": 3}
    says = "answered 404: 'no such model'"
    refused = server(body=b"no such model", status=404)
    with refused as (api, _), pytest.raises(apis.ApiError, match=says):
        pieces(api)


ANSWERS = Path(__file__).parent / "data" / "streams"
WORDS = r"first token after [\d.]+ s; then [\d.]+ tokens/s; 20 tokens in [\d.]+ s; prompt 10 tokens"
FACE = {"delta": {"content": "\U0001f600ä"}, "finish_reason": "stop"}
_CALLS = [{"function": {"name": "weather", "arguments": "{}"}}]
CALL = {"delta": {"tool_calls": _CALLS}, "finish_reason": "tool_calls"}


def test_answers_of_many_servers(light: Inv) -> None:
    """What servers really give is taken, its figures are true, and it is shown on any terminal."""
    light("tp.start")
    stream = light.home / "light" / "stream"
    for name in ("no-done.sse", "usage-without-choices.sse"):
        stream.write_text((ANSWERS / name).read_text())
        said = light("tp.chat", "Hi")
        assert said.out.split() == ["word"] * 20
        assert re.match(WORDS, said.err), said.err
    stream.write_text((ANSWERS / "one-piece.sse").read_text().replace("wait 2", "wait 0.5"))
    said = light("tp.chat", "Hi")
    once = r"after 0\.\d+ s; came in one piece; 20 tokens in 0\.\d s, \d\d\.\d tokens/s in all;"
    assert re.search(once, said.err), said.err
    few = ("--concurrency", "1", "--requests", "2", "--repeats", "1")
    bench = light("tp.bench", *few, "--prompt-tokens", "10")
    assert "  2 of 2 answers came in one piece: no tokens/s of them" in bench.err
    assert re.search(r" s +- +- +\d\d\.\d$", bench.out, re.MULTILINE), bench.out
    stream.write_text((ANSWERS / "error.json").read_text())
    told = "the server said: prompt too long: 999 > 512"
    assert light("tp.chat", "Hi", code=4).one_line().startswith(f"chat: {told}: inv ")
    stream.write_text(f"data: {json.dumps({'choices': [CALL]})}\n")
    assert light("tp.chat", "Hi").out == "tool call: weather({})\n"
    stream.write_text(f"data: {json.dumps({'choices': [FACE]})}\n")
    light.env["PYTHONIOENCODING"] = "latin-1"
    line = [sys.executable, "-m", "invoke", "-f", str(light.config), "tp.chat", "Hi"]
    shown = subprocess.check_output(line, cwd=light.cwd, env=light.environment())
    assert shown.decode("latin-1") == "\\U0001f600ä\n"


def rank_pid(inv: Inv, rank: int) -> int:
    return int(inv("tp.status", "--json").json()["ranks"][rank]["pid"])


def test_chat(served: Inv) -> None:
    assert "no server is recorded: inv tp.start" in served("tp.chat", "Hi", code=3).one_line()
    served("tp.start")
    said = served("tp.chat", "Hi", "--max-tokens", "12", "--temperature", "0")
    assert re.search(r"^first token after \d.*; 12 tokens in", said.err)
    told: Any = served(
        "tp.chat",
        "Hi",
        "--system",
        "Be brief",
        "--max-tokens",
        "12",
        "--temperature",
        "0",
        "--json",
    ).json()
    # A token of the tiny model is a letter, but for the odd one that is none.
    assert said.out.strip()
    assert told["text"].strip() != said.out.strip()
    assert told["tokens"] == 12
    assert told["finish"] == "length"
    assert 0 < told["first"] < told["seconds"]
    # Each byte is a token, and each message has two marks.
    assert told["prompt_tokens"] == len("Be brief") + len("Hi") + 5
    top_of_a_server(served)
    os.kill(rank_pid(served, 0), signal.SIGKILL)
    assert "rank 0 has ended: inv tp.restart" in served("tp.chat", "Hi", code=3).one_line()


def top_of_a_server(served: Inv) -> None:
    """Ranks, clients and requests are told; Ctrl-C is how it ends, without a word."""
    top = Top(served, "--json")
    seen = top.until(lambda node: len(node["ranks"]) == 2 and node["ranks"][1]["cpu"] is not None)
    assert [rank["state"] for rank in seen["ranks"]] == ["running", "running"]
    assert all(rank["memory"] > 10**7 for rank in seen["ranks"])
    assert seen["memory"]["wired"] is not None
    assert seen["memory"]["baseline"] is not None
    chat = served.start("tp.chat", "Hi", "--max-tokens", "200")
    assert top.until(lambda node: node["clients"] == 1)
    assert top.until(lambda node: node["requests"] == 1)
    chat.communicate(timeout=DEADLINE)
    assert top.until(lambda node: node["clients"] == 0)
    top.end()
    lines = served("tp.top", "--count", "2").out.splitlines()
    assert len(lines) == 2
    assert re.search(r"^[\d:]+  127.0.0.1  cpu \d+ %  memory .*  rank 0 cpu \d+ % ", lines[1])


class Top:
    """A tp.top that runs; its lines are documents."""

    def __init__(self, inv: Inv, *words: str) -> None:
        self.process = inv.start("tp.top", *words)

    def until(self, found: Callable[[Any], bool], host: str | None = None) -> Any:
        """The first document (of that host) that is as wanted."""
        end = time.monotonic() + DEADLINE
        assert self.process.stdout
        while time.monotonic() < end:
            line = self.process.stdout.readline()
            assert line, self.process.communicate()[1]
            node = json.loads(line)
            if host in (None, node["host"]) and node["state"] == "ok" and found(node):
                return node
        raise AssertionError("it was never shown")

    def state(self, host: str, state: str) -> list[Any]:
        """Documents up to the first that shows a host in this state."""
        end = time.monotonic() + DEADLINE
        seen: list[Any] = []
        assert self.process.stdout
        while time.monotonic() < end:
            seen.append(json.loads(self.process.stdout.readline()))
            if (seen[-1]["host"], seen[-1]["state"]) == (host, state):
                return seen
        raise AssertionError(f"{host} was never {state}: {seen[-1]}")

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        _, err = self.process.communicate(timeout=DEADLINE)
        assert (self.process.returncode, err) == (0, "")


def test_top_of_dead_nodes(inv: Inv, home: Path, sshd: Sshd) -> None:
    """A node that falls silent or dies is told so, holds up no other, and comes back."""
    (home / "hosts.json").write_text(json.dumps({"engine": "mlx-lm", "hosts": sshd.hosts}))
    inv.env["INVOKE_TP_HOSTFILE"] = str(home / "hosts.json")
    top = Top(inv, "--json")
    top.until(lambda node: node["cpu"] is not None, "mac1")
    top.until(lambda node: node["cpu"] is not None, "mac2")
    sshd.freeze("mac2")
    seen = top.state("mac2", "silent")
    assert seen[-1]["why"].startswith("no word for ")
    assert ("mac1", "ok") in {(node["host"], node["state"]) for node in seen}
    sshd.thaw("mac2")
    top.state("mac2", "ok")
    process = sshd.processes.pop("mac2")
    process.kill()
    process.wait(DEADLINE)
    assert top.state("mac2", "unreachable")[-1]["why"]
    assert {node["state"] for node in top.state("mac1", "ok") if node["host"] == "mac1"} == {"ok"}
    sshd.start("mac2")
    top.state("mac2", "ok")
    top.end()


def test_top_of_links(inv: Inv, home: Path, macs: Callable[..., Rig]) -> None:
    """A cable that is out shows at both ends; wired memory is what the Mac's vm_stat says."""
    rig = macs()
    hosts = [
        {"ssh": name, "ips": [rig.address(name)], "links": {"en5": rig.links[name, "en5"]}}
        for name in rig.names
    ]
    (home / "hosts.json").write_text(json.dumps({"engine": "mlx-lm", "hosts": hosts}))
    inv.env["INVOKE_TP_HOSTFILE"] = str(home / "hosts.json")
    top = Top(inv, "--json")
    node = top.until(lambda node: node["links"][0]["up"] is True, "mac2")
    assert [link["name"] for link in node["links"]] == ["en5"]
    assert node["memory"]["total"] >= 2**36
    rig.fault("mac1", "link_cut", "en5")
    for name in rig.names:
        top.until(lambda node: node["links"][0]["up"] is False, name)
    top.end()


_NODE: Any = {
    "cpu": None, "memory": dict.fromkeys(("used", "total", "wired", "baseline")), "links": [],
    "ranks": [],
}  # fmt: skip
NETSTAT = """Name  Mtu  Network  Address  Ipkts Ierrs Ibytes Opkts Oerrs Obytes Coll
lo0        16384 <Link#1>                        900 0 111000  900 0  111000  0
lo0        16384 127           127.0.0.1         900     -  111000  900 -  111000 -
en5        1500  <Link#9>    36:aa:bb:cc:dd:01    70 0  7000000  80 0  8000000 0
en5        1500  10.254.0.4/30 10.254.0.5         60 -  6000000  70 -  7000000 -
gif0*      1280  <Link#2>                          0 0  0  0 0  0 0
"""
VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                              1000.
Pages active:                            5000.
Pages wired down:                        3000.
Pages purgeable:                          100.
Anonymous pages:                         4000.
Pages occupied by compressor:             200.
"""
# What a Mac's commands print, by name.
MAC = {
    "sysctl": "echo 549755813888",
    "vm_stat": f"cat <<'END'\n{VM_STAT}END",
    "netstat": f"case $* in *p\\ tcp) cat <<'END'\n"
    "tcp4       0      0  127.0.0.1.8000         127.0.0.1.52001        ESTABLISHED\n"
    "tcp4       0      0  127.0.0.1.52001        127.0.0.1.8000         ESTABLISHED\n"
    "tcp4       0      0  *.8000                 *.*                    LISTEN\n"
    f"END\n;; *) cat <<'END'\n{NETSTAT}END\nesac",
    "ifconfig": "printf '%s: flags=8863<UP> mtu 1500\\n\\tstatus: active\\n' $1",
    "ps": "echo '  501   1:02.50 2048'",
    "iostat": "printf '      cpu    load average\\n us sy id   1m   5m   15m\\n'\n"
    "printf '  3  2 95  1.50 1.60 1.70\\n 12  7 81  1.50 1.60 1.70\\n'; sleep 0.1",
}


def test_vitals_of_a_mac(home: Path) -> None:
    """The loop itself, with a Mac's commands in place of /proc."""
    (home / "bin").mkdir()
    for name, body in MAC.items():
        (home / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (home / "bin" / name).chmod(0o755)
    log = home / "rank0.log"
    log.write_text('"POST /v1/chat/completions HTTP/1.1" 200 -\n')
    wanted = vitals.MonitorOptions(str(home / "state"), "default", ["en5"], [501], 8000, str(log))
    script = vitals.loop(wanted, 1, "NONCE").replace("/proc/stat", "/nowhere")
    environ = {**os.environ, "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True, env=environ)
    assert process.stdout
    text, found = "", [""]
    while len(found) < 50 and not vitals.parse(found[-1]).posts:
        text += process.stdout.readline()
        found = vitals.blocks(text, "NONCE")[0] or [""]
        if len(found) == 2 and log.stat().st_size < 80:
            with log.open("a") as file:
                file.write('"POST /v1/chat/completions HTTP/1.1" 200 -\n' * 2)
    process.stdout.close()  # nobody reads it any more: it ends
    process.wait(DEADLINE)
    first, last = vitals.parse(found[0]), vitals.parse(found[-1])
    assert (first.busy, last.busy) == (None, 0.19)
    assert last.memory == Memory(549755813888, 3000 * 16384, 16384)
    assert last.used == (4000 - 100 + 3000 + 200) * 16384
    assert last.links["en5"] == vitals.LinkRate(True, 7000000, 8000000)
    assert last.links["gif0"] == vitals.LinkRate(False, 0, 0)
    assert last.links["lo0"] == vitals.LinkRate(None, 111000, 111000)
    assert last.processes == {501: vitals.ProcessUse(62.5, 2048 * 1024)}
    assert (last.clients, first.posts, last.posts) == (1, 0, 2)


@pytest.mark.parametrize(
    ("log", "more", "posts"),
    [
        ("loading\n", "100 tokens\n", None),  # its access log is off: nothing is known
        ('"GET /health HTTP/1.1" 200 -\n', "", 0),
        ("loading\n", '"GET /health HTTP/1.1" 200 -\n', 0),
        ("loading\n", 'INFO: 127.0.0.1:5 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n', 1),
    ],
)
def test_requests_of_a_log(home: Path, log: str, more: str, posts: int | None) -> None:
    """0 is said only of a log that has told of requests or pages."""
    file = home / "rank0.log"
    file.write_text(log)
    wanted = vitals.MonitorOptions(str(home / "state"), "default", log=str(file))
    script = vitals.loop(wanted, 1, "NONCE").replace("/proc/stat", "/nowhere")
    (home / "bin").mkdir()
    # The pause is where the log grows.
    (home / "bin" / "iostat").write_text(
        f"#!/bin/sh\ncat <<'END' >>{file}\n{more}END\necho 1 2 3\n"
    )
    (home / "bin" / "iostat").chmod(0o755)
    environ = {**os.environ, "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    script = script.replace("blocks=600", "blocks=2").replace("blocks='600'", "blocks=2")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environ)
    assert vitals.parse(vitals.blocks(done.stdout, "NONCE")[0][1]).posts == posts
    node: Any = {"clients": 3, "requests": posts, "requests_per_second": None}
    assert (
        topping.cells(_NODE | node)[-1] == f"clients 3  requests {'-' if posts is None else posts}"
    )


def test_rates() -> None:
    """Counters that go back, and processes that come and go, give no rate."""
    old = vitals.Vitals(
        10.0, (100, 1000),
        links={"a": vitals.LinkRate(True, 5, 9), "b": vitals.LinkRate(True, 9, 9)},
        processes={1: vitals.ProcessUse(1.0, 1), 2: vitals.ProcessUse(5.0, 1)}, posts=4,
    )  # fmt: skip
    new = vitals.Vitals(
        12.0, (150, 1200),
        links={"a": vitals.LinkRate(True, 15, 9), "b": vitals.LinkRate(True, 0, 0)},
        processes={1: vitals.ProcessUse(2.0, 1), 3: vitals.ProcessUse(1.0, 1)}, posts=10,
    )  # fmt: skip
    found = vitals.rates(old, new, 99)
    assert found == vitals.Rates(0.25, {"a": (5.0, 0.0)}, {1: 0.5}, 3.0)
    assert vitals.parse("") == vitals.Vitals()


def test_a_chat_that_breaks_off(light_remote: Inv, home: Path) -> None:
    """Through SSH too it comes as it is made; what has come is shown, then what to do."""
    light_remote("tp.start")
    piece = json.dumps({"choices": [{"delta": {"content": "abc"}}]})
    (home / "light" / "stream").write_text(f"data: {piece}\n\n" * 2 + ": wait 600\n")
    pid = rank_pid(light_remote, 0)
    chat = light_remote.start("tp.chat", "Hi")
    assert chat.stdout
    assert chat.stdout.read(3) == "abc"
    subprocess.run(["ssh", "-F", home / ".ssh" / "config", "mac1", f"kill -9 {pid}"], check=True)
    _, err = chat.communicate(timeout=DEADLINE)
    assert chat.returncode == 4
    assert re.fullmatch(r"chat: the stream broke off after \d+ pieces: inv tp.status .*\n", err)


@pytest.mark.parametrize(
    ("values", "p50", "p95"),
    [
        ([], None, None),
        ([3.0], 3.0, 3.0),
        ([1.0, 2.0], 1.5, 1.95),
        ([float(each) for each in range(101)], 50.0, 95.0),
    ],
)
def test_spread(values: list[float], p50: float | None, p95: float | None) -> None:
    half, most = load.spread(values)
    assert half == pytest.approx(p50)
    assert most == pytest.approx(p95)


@pytest.mark.parametrize(
    ("count", "wanted", "words"),
    [
        (lambda words: words + 10, 128, 118),  # a token per word, and a template of 10
        (lambda words: 5 * words + 5, 2048, 409),  # a token per letter
        (lambda words: round(1.3 * words) + 30, 4096, 3128),
        (lambda words: None, 128, 128),  # a server that does not count
        (lambda words: words + 500, 128, 1),  # a template that is longer than what is wanted
    ],
)
def test_calibrate(count: Callable[[int], int | None], wanted: int, words: int) -> None:
    assert abs(load.calibrate(count, wanted) - words) <= wanted * load.NEAR


def test_prompts_begin_differently() -> None:
    """Else a server that caches what prompts have in common would look faster than it is."""
    prompts = {load.prompt(20, f"run {number}") for number in range(50)}
    assert len({text[:25] for text in prompts}) == 50
    assert load.prompt(20, "a") == load.prompt(20, "a")


def loaded(api: apis.Api, requests: int, timeout: float = 30) -> load.LoadRow:
    return load.LoadTest(api, "m", 8, timeout, "seed").run(16, 16, 2, requests)


def test_load() -> None:
    body = (
        b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
        b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}\n\n'
        b"data: [DONE]\n\n"
    )
    with server(body=body) as (api, asked):
        row = loaded(api, 7)
    assert len(asked) == len(row.good) == 7
    assert row.total == pytest.approx(7 * 4 / row.seconds)
    told = row.document()
    assert told["prompt_tokens"] == 9
    assert 0 < (told["first_token"]["p50"] or 0) <= (told["first_token"]["p95"] or 0)
    assert told["errors"] == {}


def test_errors_of_single_requests_are_counted() -> None:
    with server(body=b"full", status=503) as (api, _):
        row = loaded(api, 3)
        late = loaded(api, 3, timeout=0)
    assert row.errors == {"the completion answered 503: 'full'": 3}
    assert row.total is None
    assert late.errors == {"not asked: the time was over": 3}


def test_bench(served: Inv, home: Path) -> None:
    """A run to a file, and two runs compared; where fewer ranks were faster it is said."""
    assert "inv tp.start" in served("tp.bench", code=3).one_line()
    served("tp.start")
    small = ("--prompt-tokens", "64", "--max-tokens", "4", "--requests", "2")
    for name in ("before", "after"):
        file = str(home / f"{name}.json")
        more = ("--repeats", "4", "--label", name, "--out", file)
        done = served("tp.bench", "--concurrency", "1,2", *small, *more)
        assert "row 2 of 2: 2 prompts of 64 tokens, 2 at a time" in done.err
        assert re.search(r"^6[2-6] tokens +2 +8 +[\d.]+ s.* ±\d+ %$", done.out, re.MULTILINE)
        # As if one rank had been measured, and were faster.
        kept = home / layout.CLUSTER / "rates"
        assert ("1 rank is faster" in done.err) == (name == "after")
        (two,) = re.findall(r"^2 ring [\d.]+ \d+ (.+)$", kept.read_text(), re.MULTILINE)[-1:]
        with kept.open("a") as file_:
            file_.write(f"1 ring 99999.50 1764500000 {two}\n")
    assert re.search(r"1 rank is faster .*: 99999.5 tokens/s .*: -n 1", done.err)
    assert "1 rank is faster" in served("dev.model", two, "-n", "2").err
    assert "1 rank is faster" in served("tp.restart").err.splitlines()[-1]
    assert ("not narrow after 4 repeats" in done.err) == (
        not all(row["is_narrow"] for row in json.loads((home / "after.json").read_text())["rows"])
    )
    run = json.loads((home / "before.json").read_text())
    assert [row["concurrency"] for row in run["rows"]] == [1, 2]
    assert all(row["prompt_tokens"] in range(62, 67) for row in run["rows"])
    assert all(sample["tokens"] == 4 for row in run["rows"] for sample in row["samples"])
    assert (run["ranks"], run["fast_synch"], run["version"]) == (2, "unset", VERSION)
    assert run["nodes"][0]["versions"]["mlx"]
    plot = home / "change.svg"
    files = f"{home}/before.json,{home}/after.json"
    # On against off is told where runs differ in it.
    other = json.loads((home / "after.json").read_text())
    (home / "after.json").write_text(json.dumps({**other, "fast_synch": "on"}))
    table = served("tp.bench", "--compare", files, "--out", str(plot)).out
    change = r"(noise|[+-]\d+ %) \([+-]\d+ to [+-]\d+ %\)"
    synch = r"after \(MLX_METAL_FAST_SYNCH on\)"
    assert re.search(rf"^64 x2 +{synch} +first token +[\d.]+ s +{change}$", table, re.M)
    assert len(re.findall(rf"^ +in total +[\d.]+/s +{change}$", table, re.M)) == 2
    rows = served("tp.bench", "--compare", files, "--json").json()["compared"]
    assert [row["run"] for row in rows if row["is_base"]] == [
        "before (MLX_METAL_FAST_SYNCH unset)"
    ] * 2
    told = served("tp.bench", "--history", "--out", str(plot)).out.splitlines()
    assert told[0].split() == ["when", "label", "ranks", "model", "prompt", "total", "change"]
    assert len(told) == 5
    assert re.search(rf" after +2 ring +model +64 x2 +[\d.]+/s +{change}$", told[4])
    kept = served("tp.bench", "--history", "--json").json()["history"]
    assert [each["label"] for each in kept] == ["before", "after"]
    titles = [each.text for each in ET.parse(plot).getroot()]
    assert "tokens/s of all requests together" in titles
