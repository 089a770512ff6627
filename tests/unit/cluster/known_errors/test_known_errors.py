"""Known errors: every line belongs to its entry alone, and no line can hold the patterns up."""

from __future__ import annotations

import io
import math
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.cluster.known_errors.search import BLOCK, search
from tasks.cluster.known_errors.table import LIMIT, KnownError, When, claimant, table

if sys.version_info >= (3, 11):
    import re._parser as parser

    import tomllib
else:
    import sre_parse as parser

    import tomli as tomllib

HERE = Path(__file__).parent
ROOT = Path(__file__).parents[4]
CASES = ROOT.parent / "shared" / "field-cases"
COLLECTED = tomllib.loads((HERE / "lines.toml").read_text(encoding="utf-8"))
LINES, LATER = COLLECTED["line"], COLLECTED["later"]
ABOUT = {"joining", "launch", "metal", "model", "hub", "server", "python", "system", "ssh"}
FACTS = {"mlx-lm", "rdma.ping", "MLX_METAL_FAST_SYNCH"}


# What sources raise: name, file and line, exception, text, entry, kept or missed when judged.
RAISED = [
    row.split("\t")
    for row in (HERE / "raised.tsv").read_text(encoding="utf-8").splitlines()
    if not row.startswith("#")
]


def claimants(line: str, frame: str = "") -> list[str]:
    """Who has the line: all that are not general, else the one that is told."""
    claiming = [known for known in table() if known.claims(line, frame)]
    told = claimant(line, frame=frame)
    return [known.id for known in claiming if not known.general] or ([told.id] if told else [])


@pytest.mark.parametrize("known", table(), ids=lambda known: known.id)
def test_every_sample_is_claimed_by_its_entry_alone(known: KnownError) -> None:
    assert claimants(known.sample, known.at) == [known.id]


@pytest.mark.parametrize("row", LINES + LATER, ids=lambda row: row["text"][:60])
def test_every_collected_line_is_claimed_by_its_entry_alone(row: dict[str, Any]) -> None:
    expected = [row["entry"]] if row["entry"] else []
    assert claimants(row["text"], row.get("at", "")) == expected


@pytest.mark.parametrize("source", sorted({row[0] for row in RAISED}))
def test_what_a_source_raises_is_claimed_by_its_entry_alone(source: str) -> None:
    rows = [row for row in RAISED if row[0] == source]
    said = {text: claimants(_printed(name, text)) for _, _, name, text, _, _ in rows}
    assert said == {text: [entry] if entry else [] for _, _, _, text, entry, _ in rows}


def _printed(exception: str, text: str) -> str:
    """The line that Python prints of it."""
    return f"{exception}: {text}".replace('\\"', '"').replace("\\'", "'")


def test_a_general_entry_has_what_no_other_claims() -> None:
    known = claimant("ValueError: [metal::Device] Unable to load kernel x")
    assert known is not None
    assert known.id == "metal-kernel-missing"
    assert claimants("ValueError: [metal::anything] else") == ["metal-refused"]


def test_every_tenth_line_was_kept_apart() -> None:
    assert len([row for row in RAISED if row[-1]]) >= len(RAISED) / 10
    assert [i for i, row in enumerate(LINES, 1) if row.get("kept")] == [*range(10, len(LINES), 10)]


@pytest.mark.parametrize("known", table(), ids=lambda known: known.id)
def test_every_entry_is_whole(known: KnownError) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", known.id)
    assert known.about in ABOUT
    assert known.source.startswith("https://")
    assert all(known.text)
    for sentence in (known.means, known.first):
        assert sentence
        assert not sentence.endswith(".")
    assert {when.fact for when in known.when} <= FACTS
    for when in known.when:
        assert sum(each is not None for each in (when.equals, when.below, when.at_least)) == 1


def test_ids_are_names() -> None:
    assert [
        name for name, times in Counter(known.id for known in table()).items() if times > 1
    ] == []


def test_every_task_that_is_named_exists() -> None:
    from tasks import ns

    text = (ROOT / "tasks/cluster/known_errors/errors.toml").read_text(encoding="utf-8")
    assert set(re.findall(r"\binv ([a-z]+\.[a-z]+)", text)) <= set(ns.task_names)


@pytest.mark.parametrize("known", table(), ids=lambda known: known.id)
def test_patterns_are_linear(known: KnownError) -> None:
    """No repeat without a bound, none within another: the work per character has a limit."""
    assert widest(parser.parse(known.pattern)) <= 1000
    assert widest(parser.parse(known.frame)) <= 1000


def widest(pattern: Any) -> int:
    """Tell how many ways one attempt may try: repeats in a row or in each other multiply."""
    return math.prod(_ways(str(name), value) for name, value in pattern)


def _ways(name: str, value: Any) -> int:
    if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        assert value[1] < 1000, "a repeat without a bound"
        return max(1, int(value[1]) * widest(value[2]))
    if name == "BRANCH":
        return sum(widest(each) for each in value[1])
    if name in ("SUBPATTERN", "ASSERT", "ASSERT_NOT"):
        return widest(value[-1])
    assert name in ("LITERAL", "NOT_LITERAL", "ANY", "IN", "AT", "CATEGORY")
    return 1


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "a*", r"(\w{1,50}){1,50}", ".{0,99}a.{0,99}b", r"(a)\1"]
)
def test_the_rule_of_linear_patterns_can_fail(pattern: str) -> None:
    with pytest.raises(AssertionError):
        assert widest(parser.parse(pattern)) <= 1000


def test_only_the_beginning_of_a_long_line_counts() -> None:
    error = "RuntimeError: [jaccl] Recv failed with errno=2"
    assert claimant(" " * (LIMIT - len(error)) + error) is not None
    assert claimant(" " * LIMIT + error) is None


# What must come out of the cases that the field has sent in, by words of their first lines.
MUST = {
    "30": ("metal-resource-limit", "smaller context or concurrency", "update mlx-lm", "restart"),
    "31": ("metal-interactivity", "no display on that Mac", "smaller prefill step"),
    "32": ("no-tensor-parallel", "can't be divided", "another model, or one rank"),
    "33": ("fewer-kv-heads", "fewer KV heads than ranks", "-n N"),
    "34": ("weights-missing", "is mlx-lm", "copy the model again"),
    "37": ("old-mlx-backend", "update mlx on that node"),
    "39": ("another-rank-failed", "another rank died first", "earliest error"),
    "40": ("no-route", "no route to that address", "ips", "inv rdma.ping"),
    "41": ("rtr-timeout", "if rdma.ping is fine: reboot both"),
    "45": ("hub-gated", "fetch it once", "inv dev.sync"),
    "46": ("metal-timeout", "watchdog", "may hang or stay wedged", "mlx#3142"),
}
CASE_LINES = {
    "30": "RuntimeError: [metal::malloc] Resource limit (499000) exceeded.",
    "31": "RuntimeError: [METAL] Command buffer execution failed: Impacting Interactivity"
    " (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)",
    "32": "2026-11-27 19:33:11,070 - ERROR - mlx_lm.server generation thread died: The model does"
    " not support tensor parallelism but a tensor_group was provided",
    "33": "2026-11-27 19:35:37,767 - ERROR - mlx_lm.server generation thread died: [reshape] Cannot"
    " infer the shape of an empty array",
    "34": "ValueError: Missing 627 parameters: model.layers.0.self_attn.indexer.k_norm.bias,",
    "37": "ValueError: [distributed] The only valid values for backend are 'any', 'mpi' and 'ring'"
    " but 'jaccl' was provided.",
    "39": "RuntimeError: [jaccl] Send failed with errno=22",
    "40": "RuntimeError: [jaccl] Couldn't connect (error: 51)",
    "41": "RuntimeError: [jaccl] Changing queue pair to RTR failed with errno 60",
    "45": "huggingface_hub.errors.GatedRepoError: 403 Client Error. Cannot access gated repo for"
    " url https://huggingface.co/x/resolve/main/config.json.",
    "46": "[METAL] Command buffer execution failed: Caused GPU Timeout Error"
    " (00000002:kIOGPUCommandBufferCallbackErrorTimeout)",
}


@pytest.mark.parametrize("case", MUST)
def test_field_case(case: str) -> None:
    entry, *words = MUST[case]
    files = list(CASES.glob(f"{case}-*.log"))
    if CASES.is_dir():
        assert [file.read_text(encoding="utf-8").strip() for file in files] == [CASE_LINES[case]]
    known = search(io.BytesIO(CASE_LINES[case].encode())).known
    assert known is not None
    assert known.id == entry
    said = f"{known.means} {known.first}; {known.then}"
    assert [word for word in words if word not in said] == []


RTR_60 = "[jaccl] Changing queue pair to RTR failed with errno 60"
STREAM = "RuntimeError: There is no Stream(gpu, 0) in current thread."


@pytest.mark.parametrize(
    ("line", "facts", "first"),
    [
        (RTR_60, {}, "check ips in the hostfile"),
        (RTR_60, {"rdma.ping": "ok"}, "reboot both Macs"),
        (RTR_60, {"rdma.ping": "fail"}, "the cable and ips"),
        (STREAM, {"mlx-lm": "0.31.2"}, "update mlx-lm on all nodes"),
        (STREAM, {"mlx-lm": "0.31.3"}, "the server is too old"),
        (STREAM, {"mlx-lm": "0.32.0.dev1"}, "the server is too old"),
        (CASE_LINES["34"], {"mlx-lm": "0.32.2"}, "copy the model again"),
        (CASE_LINES["34"], {"mlx-lm": "0.31.3"}, "inv tp.preflight"),
    ],
)
def test_the_sentence_depends_on_facts(line: str, facts: dict[str, str], first: str) -> None:
    known = claimant(line)
    assert known is not None
    assert known.told(facts).first.startswith(first)


def test_fast_synch_is_told_from_both_sides() -> None:
    known = claimant(CASE_LINES["46"])
    assert known is not None
    assert "watchdog ended it" in known.told({"MLX_METAL_FAST_SYNCH": "unset"}).means
    assert "out of envs" in known.told({"MLX_METAL_FAST_SYNCH": "set"}).then


def test_a_version_is_compared_number_by_number() -> None:
    assert When("mlx-lm", below="0.31.3").holds({"mlx-lm": "0.9.0"})
    assert not When("mlx-lm", below="0.9.0").holds({"mlx-lm": "0.31.3"})
    assert not When("mlx-lm", below="0.31.3").holds({})


# Searching a log.

ERROR = b"RuntimeError: [jaccl] Recv failed with errno=2\n"
FINE = b"INFO " + b"fine " * 20 + b"\n"


def test_an_error_far_down_is_found_with_its_line() -> None:
    log = FINE * 30_000 + ERROR
    assert len(log) > 2 * BLOCK
    found = search(io.BytesIO(log))
    assert found.line is not None
    assert (found.line.number, found.line.text) == (30_001, ERROR.decode().strip())


def test_digits_tell_an_error_from_another() -> None:
    known = b"qp[10] FAILED errno=16\n"
    unknown = known.replace(b"=16", b"=222")
    log = (unknown + FINE * 7_500) * 2 + known
    found = search(io.BytesIO(log))
    assert found.line is not None
    assert found.line.number == 15_003


def test_the_first_known_error_counts_and_an_unknown_one_before_it_is_told() -> None:
    log = (
        b"ok\nRuntimeError: nobody knows this\nok\n"
        + ERROR
        + b"[ring] connection to a peer was lost"
    )
    found = search(io.BytesIO(log))
    assert found.error is not None
    assert found.error.number == 2
    assert found.known is not None
    assert found.known.id == "another-rank-failed"


def test_what_does_no_harm_is_told_for_want_of_another() -> None:
    harmless = b"BrokenPipeError: [Errno 32] Broken pipe\n"
    alone = search(io.BytesIO(b"fine\n" + harmless + b"fine\n"))
    assert alone.known is not None
    assert alone.known.id == "broken-pipe"
    both = search(io.BytesIO(harmless + FINE * 15_000 + ERROR))
    assert both.known is not None
    assert both.known.id == "another-rank-failed"


def test_of_a_traceback_the_exception_is_the_error() -> None:
    log = b'Traceback (most recent call last):\n  File "x.py", line 1\nRuntimeError: nobody knows\n'
    found = search(io.BytesIO(log))
    assert found.known is None
    assert found.error is not None
    assert found.error.number == 3


RAISING = (
    'Traceback (most recent call last):\n  File "/v/site-packages/{}", line 9, in f\n    x\n{}\n'
)


@pytest.mark.parametrize(
    ("path", "line", "entry"),
    [
        ("mlx_lm/models/x.py", "ValueError: nobody knows", "in-model-code"),
        ("mlx_lm/server.py", "RuntimeError: nobody knows", "in-server-code"),
        ("transformers/models/x/configuration_x.py", "KeyError: 'a'", "in-config-code"),
        ("huggingface_hub/file_download.py", "x.OddError: nobody knows", "in-hub-code"),
        (
            "mlx_lm/server.py",
            "RuntimeError: [jaccl] Recv failed with errno=2",
            "another-rank-failed",
        ),
        ("mlx_lm/server.py", "nobody.knows.This: at all", None),
    ],
)
def test_the_file_that_raised_tells_what_the_line_does_not(
    path: str, line: str, entry: str | None
) -> None:
    found = search(io.BytesIO(RAISING.format(path, line).encode()))
    assert (found.known.id if found.known else None) == entry
    assert claimants("ValueError: nobody knows") == []


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("ERROR:vllm_mlx.scheduler:nobody knows", "in-server-code"),
        ("2026-08-26 16:32:39 - omlx.memory_cache - ERROR - [-] - nobody knows", "in-cache-code"),
        ("09:24:31 | CRITICAL | app.api.endpoints:chat:99 | nobody knows", "in-server-code"),
        ("WARNING:vllm_mlx.scheduler:nobody knows", None),
        ("ERROR:nobody.knows:this", None),
        ("mistral_common.exceptions.OddError: nobody knows", "in-tokenizer-code"),
        ("x litellm.exceptions.OddError: nobody knows", "in-package"),
        ("sqlite3.OperationalError: nobody knows", None),
        ("OddError: nobody.knows", None),
        ("ERROR:vllm_mlx.scheduler:[jaccl] Recv failed with errno=2", "another-rank-failed"),
    ],
)
def test_a_logger_or_a_module_tells_what_the_line_does_not(line: str, entry: str | None) -> None:
    found = search(io.BytesIO(line.encode()))
    assert (found.known.id if found.known else None) == entry


@pytest.mark.parametrize(
    "line",
    [
        "INFO: ASGI 'lifespan' protocol appears unsupported.",
        "2026-11-27 19:33:09,070 - INFO - Prompt processing progress: 2048/4096",
        "[ 2026-04-01 12:46:04 | INFO | exo.worker.main:plan_step:188 ] Model a/K2.5 found at",
        "Fetching 17 files: 100%|####| 17/17 [00:00<00:00, 39.1it/s]",
        '10.0.0.7 - - [27/Nov/2026 19:33:09] "POST /v1/chat/completions HTTP/1.1" 200 -',
        "INFO:vllm_mlx.scheduler:[schedule] request=a prompt_tokens=401 tokens_to_prefill=23",
    ],
)
def test_what_is_no_error_belongs_to_nobody(line: str) -> None:
    assert claimants(line) == []


def test_a_package_that_raised_is_named() -> None:
    log = RAISING.format("librosa/core.py", "ValueError: nobody knows")
    found = search(io.BytesIO(log.encode()))
    assert found.known is not None
    assert "librosa" in found.known.means
    assert "pip install -U librosa" in found.known.first


@pytest.mark.parametrize("tag", [b"rank 1 | ", b"\x1b[31m[ERROR] ", b"Fetching 3 files\r"])
def test_tags_colours_and_progress_are_no_part_of_a_line(tag: bytes) -> None:
    found = search(io.BytesIO(tag + ERROR))
    assert found.line is not None
    assert found.line.text.endswith(ERROR.decode().strip())
    assert "\x1b" not in found.line.text
    assert "|" not in found.line.text


@pytest.mark.parametrize(
    "junk", [bytes(range(256)) * 9000, b"\xff\xfe" * 99, b"x" * (3 * BLOCK), b"\r" * 9999, b""]
)
def test_junk_is_no_error(junk: bytes) -> None:
    assert search(io.BytesIO(junk)).known is None


def test_an_error_after_a_line_without_end_is_found() -> None:
    assert search(io.BytesIO(b"x" * (3 * BLOCK) + b"\n" + ERROR)).line is not None


class Endless(io.RawIOBase):
    """A log of `size` bytes that is nowhere in memory; what was asked for at once is noted."""

    def __init__(self, size: int) -> None:
        self.left, self.most = size, 0
        self.line = b"2026-05-28 09:55:05,000 - INFO - Prompt processing progress: 7/8\n" * 16000

    def read(self, size: int = -1) -> bytes:
        self.most = max(self.most, size if size >= 0 else sys.maxsize)
        data = self.line[: min(size, self.left)]
        self.left -= len(data)
        return data


def test_a_log_of_any_size_is_read_piece_by_piece() -> None:
    log = Endless(64 * BLOCK)
    assert search(log).known is None  # type: ignore[arg-type]
    assert log.left == 0
    assert log.most <= BLOCK


# Whole logs, as people paste them: the case's line in them is the first cause, and stays it.

COLOURS = "\x1b[2m12:33:10\x1b[0m \x1b[31mERROR\x1b[0m "
BEFORE = """2026-11-27 19:33:05,501 - INFO - Starting httpd at 0.0.0.0 on port 8000...
Fetching 17 files:   6%|6   | 1/17 [00:00<00:04,  3.9it/s]\rFetching 17 files: 100%|####| 17/17
/opt/x/server.py:1540: UserWarning: mlx_lm.server is not recommended for production
2026-11-27 19:33:09,070 - INFO - Prompt processing progress: 2048/4096
10.0.0.7 - - [27/Nov/2026 19:33:09] "POST /v1/chat/completions HTTP/1.1" 404 -
"""
AFTER = """ERROR:    Exception in ASGI application
RuntimeError: [jaccl] Recv failed with errno=2
[ring] connection to a peer was lost
libc++abi: terminating due to uncaught exception of type std::runtime_error: Insufficient Memory
zsh: abort      python3 -m mlx_lm server
"""
TRACEBACK = (
    "Exception in thread Thread-1 (_generate):\nTraceback (most recent call last):\n"
    '  File "/opt/x/threading.py", line 1073, in _bootstrap_inner\n    self.run()\n'
    '  File "/opt/x/mlx_lm/server.py", line 853, in _generate\n    raise ValueError(f"{x}")\n'
)


def _pasted(line: str) -> str:
    return BEFORE + line + "\n" + AFTER


def _stamped(line: str) -> str:
    return "".join(f"2026-11-27T19:33:11.070Z {row}\n" for row in _pasted(line).splitlines())


def _coloured(line: str) -> str:
    return BEFORE + COLOURS + line + "\x1b[0m\n" + AFTER


def _windows(line: str) -> str:
    return _pasted(line).replace("\n", "\r\n")


def _traced(line: str) -> str:
    return BEFORE + TRACEBACK + line + "\n\nDuring handling of the above exception:\n" + AFTER


def _interleaved(line: str) -> str:
    """Two ranks' tracebacks, a line of each by turns; the other's is the echo, and ends later."""
    mine = (TRACEBACK + line).splitlines()
    other = ("INFO a\n" + TRACEBACK + "RuntimeError: [jaccl] Recv failed with errno=2").splitlines()
    pairs = zip([*mine, "INFO b"], other, strict=True)
    return "".join(f"rank 1 | {one}\nrank 0 | {two}\n" for one, two in pairs)


def _tagged(line: str) -> str:
    return "".join(f"[rank1]: {row}\n" for row in _traced(line).splitlines())


@pytest.mark.parametrize(
    "shape", [_pasted, _stamped, _coloured, _windows, _traced, _interleaved, _tagged]
)
@pytest.mark.parametrize("case", MUST)
def test_the_first_cause_of_a_whole_log(case: str, shape: Callable[[str], str]) -> None:
    found = search(io.BytesIO(shape(CASE_LINES[case]).encode()))
    assert found.known is not None
    assert found.known.id == MUST[case][0]
    assert found.line is not None
    assert CASE_LINES[case][-40:] in found.line.text


def test_tracebacks_of_ranks_do_not_run_into_each_other() -> None:
    log = _interleaved("nobody.knows.This: at all")
    found = search(io.BytesIO(log.encode()))
    assert found.error is not None
    assert found.error.text == "nobody.knows.This: at all"
    assert found.error.tag == "rank 1 | "


# What ended mlx_lm.server at real size, and what its model classes raise while they are divided.
@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ('TypeError: can only concatenate str (not "NoneType") to str', "token-without-text"),
        ('{"error": "generation thread died"}', "generation-thread-died"),
        ("ERROR - mlx_lm.server generation thread died: Cannot shard the output", "cannot-shard"),
        ("ValueError: split [2, 0] must be positive and sum to 2 layers", "pipeline-split"),
        ("ValueError: split [1, 2] leaves a rank without an MLA layer", "pipeline-split"),
        ("ValueError: The checkpoint has no weights for layers [3]. Con", "layers-without-weights"),
        ("AssertionError: group size 3 must divide vocab_size 128", "ranks-do-not-divide"),
        ("ValueError: The input of size 10944 cannot be sharded across 3 devices", "cannot-shard"),
        ("ValueError: [rms_norm] (*weight) must have the same size as", "heads-not-divided"),
        ("FileNotFoundError: No such file: '/m/model.safetensors.index.json'", "index-missing"),
        ("ZeroDivisionError: integer modulo by zero", "zero-division"),
    ],
)
def test_what_has_ended_a_server(line: str, entry: str) -> None:
    assert claimants(line) == [entry]
