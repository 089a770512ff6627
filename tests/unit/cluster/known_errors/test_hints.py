"""Hints: what a line in a rank's log means to its callers, and the first error of a log."""

from __future__ import annotations

import pytest

from tasks.cluster.known_errors.hints import ErrorWatch, describe_exit, facts, first_error, hint

# (line, the start of the cause that must win)
LINES = [
    (
        "pydantic_core.ValidationError: 12 validation errors for Request",
        "a request, or the server's own answer",
    ),
    (
        "ValueError: [jaccl] Changing queue pair to RTR failed with errno 22",
        "the link has no IPv4-mapped GID",
    ),
    (
        "RuntimeError: [jaccl] Changing queue pair to RTR failed with errno=22",
        "the link has no IPv4-mapped GID",
    ),
    (
        "[jaccl] No IPv4-mapped GID for this device. Thunderbolt RDMA ports only publish one",
        "the link has no IPv4-mapped GID",
    ),
    (
        "ValueError: [jaccl] Changing queue pair to RTR failed with errno 96",
        "the device has no usable GID",
    ),
    (
        "[jaccl] Creating the queue pair failed with errno 16. Thunderbolt RDMA devices support",
        "the kernel has not reclaimed",
    ),
    (
        "RuntimeError: [jaccl] Couldn't allocate protection domain",
        "the device's RDMA resources are used up",
    ),
    ("RuntimeError: [jaccl] Couldn't create queue pair", "the device's RDMA resources are used up"),
    ("ValueError: [jaccl] Recv failed with error code -12", "RDMA could not pin memory"),
    ("ValueError: [jaccl] Send failed with error code 12", "RDMA could not pin memory"),
    ("RuntimeError: [jaccl] Register memory region failed", "RDMA could not pin memory"),
    (
        "RuntimeError: [jaccl] Could not find device rdma_en4 (6 available)",
        "that RDMA device is not on the node",
    ),
    ("RuntimeError: [jaccl] Could not open device rdma_en4", "that RDMA device is not on the node"),
    (
        "RuntimeError: [jaccl] The configuration should define a valid mesh or a valid ring.",
        "the devices of the hostfile make no full mesh",
    ),
    ("RuntimeError: [jaccl] Recv failed with errno=2", "another rank died first"),
    ("RuntimeError: [jaccl] Couldn't connect (error: 65)", "macOS's Local Network privacy"),
    ("RuntimeError: [ring] Couldn't connect (error: 113)", "macOS's Local Network privacy"),
    ("OSError: [Errno 65] No route to host", "macOS's Local Network privacy"),
    ("RuntimeError: [jaccl] Couldn't connect (error: 60)", "a peer's address does not answer"),
    ("RuntimeError: [jaccl] Recv failed with errno=60", "a peer's address does not answer"),
    ("RuntimeError: [ring] Couldn't connect (error: 110)", "a peer's address does not answer"),
    ("RuntimeError: [jaccl] Couldn't bind socket (error: 49)", "an address of the hostfile"),
    ("RuntimeError: [ring] Couldn't bind socket (error: 99)", "an address of the hostfile"),
    ("OSError: [Errno 49] Can't assign requested address", "the server can't listen"),
    ("RuntimeError: [jaccl] Couldn't bind socket (error: 48)", "a port is taken"),
    ("RuntimeError: [ring] Couldn't bind socket (error: 98)", "a port is taken"),
    (
        "ERROR:    [Errno 48] error while attempting to bind on address ('0.0.0.0', 8000):"
        " address already in use",
        "a port is taken",
    ),
    ("OSError: [Errno 98] Address already in use", "a port is taken"),
    ("RuntimeError: [jaccl] Couldn't connect (error: 61)", "a peer is not listening"),
    ("RuntimeError: [ring] Couldn't connect (error: 111)", "a peer is not listening"),
    ("ConnectionRefusedError: [Errno 61] Connection refused", "a peer is not listening"),
    ("RuntimeError: [ring] connection to a peer was lost", "another rank is gone"),
    (
        "RuntimeError: [jaccl] Recv failed: peer closed the side channel (another rank failed"
        " during init or exited)",
        "another rank is gone",
    ),
    (
        "ModuleNotFoundError: No module named 'mlx_lm.models.llama9'",
        "this mlx-lm does not know that kind of model",
    ),
    (
        "ValueError: Model type llama9 not supported.",
        "this mlx-lm does not know that kind of model",
    ),
    ("/usr/bin/python3: No module named mlx_lm", "the python of that rank"),
    ("ModuleNotFoundError: No module named 'mlx'", "the python of that rank"),
    (
        "/usr/bin/python3: Error while finding module specification for 'mlx_lm.server'"
        " (ModuleNotFoundError: No module named 'mlx_lm')",
        "the python of that rank",
    ),
    (
        "/opt/x/python: No module named vllm_mlx.distributed_launcher",
        "the python of that rank",
    ),
    (
        "FileNotFoundError: [Errno 2] No such file or directory: '/python/models/x/config.json'",
        "the model is not where that rank looks",
    ),
    (
        "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error.",
        "the model is not where that rank looks",
    ),
    (
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate snapshot",
        "the model is not where that rank looks",
    ),
    ("sh: /opt/homebrew/bin/python3.14: No such file or directory", "that python is not"),
    ("sh: 12: python3: not found", "that python is not"),
    ("zsh:1: command not found: python3.14", "that python is not"),
    (
        "libc++abi: terminating due to uncaught exception of type std::runtime_error: [METAL]"
        " Command buffer execution failed: Insufficient Memory"
        " (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
        "the model and its cache do not fit",
    ),
    ("OSError: [Errno 12] Cannot allocate memory", "the model and its cache do not fit"),
    (
        "[METAL] Command buffer execution failed: Caused GPU Timeout Error"
        " (00000002:kIOGPUCommandBufferCallbackErrorTimeout)",
        "a GPU command waited too long",
    ),
    ("server: error: unrecognized arguments: --prot 8000", "the server does not know one"),
    ("server: error: argument --port: invalid int value: 'x'", "the server does not know one"),
    (
        "ValueError: Cannot shard the output of size 512 across 3 devices.",
        "the model can't be divided by this number of ranks",
    ),
    ("ValueError: Missing 3 parameters: lm_head.weight", "the files have not got all weights"),
    ("FileNotFoundError: No safetensors found in /m", "the model's folder has no weights"),
    ("RuntimeError: [jaccl] Couldn't connect (error: 51)", "no route to that address"),
    ("RuntimeError: [jaccl] Send failed with errno=22", "another rank died first"),
    (
        "RuntimeError: [load_safetensors] Invalid json header length",
        "the model's files are incomplete",
    ),
    (
        "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata",
        "the model's files are incomplete",
    ),
]

# Lines of servers that do well, and errors that are none of these.
HARMLESS = [
    "INFO:jang_tools.loader:  Loading 4 safetensors shards via mmap",
    "INFO:     Uvicorn running on http://0.0.0.0:8000 (Press CTRL+C to quit)",
    "2026-05-28 09:55:05,000 - INFO - Starting httpd at 0.0.0.0 on port 1235...",
    '127.0.0.1 - - [28/May/2026 09:55:30] "POST /v1/chat/completions HTTP/1.1" 200 -',
    "[jaccl] Connection attempt 0 waiting 1000 ms",
    "[ring] Attempt 1 wait 1000 ms",
    "Fetching 12 files: 100%|##########| 12/12 [00:00<00:00, 60.2it/s]",
    "",
]
OTHERS = [
    "RuntimeError: qp[10] FAILED errno=222",
    "RuntimeError: nobody knows this",
]


@pytest.mark.parametrize(("line", "cause"), LINES, ids=[line[:70] for line, _ in LINES])
def test_the_right_hint_wins(line: str, cause: str) -> None:
    found = hint([line])
    assert found is not None
    assert found.cause.startswith(cause)


def test_the_hint_depends_on_the_ranks_environment() -> None:
    timeout = ["[METAL] Command buffer execution failed: Caused GPU Timeout Error"]
    is_set = hint(timeout, facts({"MLX_METAL_FAST_SYNCH": "1"}))
    unset = hint(timeout, facts({"MLX_METAL_FAST_SYNCH": "0"}))
    assert is_set is not None
    assert unset is not None
    assert "although MLX_METAL_FAST_SYNCH is set" in is_set.cause
    assert "watchdog ended it" in unset.cause


@pytest.mark.parametrize("line", HARMLESS + OTHERS)
def test_no_hint(line: str) -> None:
    assert hint([line]) is None


@pytest.mark.parametrize("line", HARMLESS)
def test_no_error(line: str) -> None:
    assert first_error([line]) is None


@pytest.mark.parametrize("line", [line for line, _ in LINES] + OTHERS)
def test_every_known_error_is_seen_in_a_log(line: str) -> None:
    """An error that first_error passes over never comes to its hint."""
    assert first_error([*HARMLESS, line, "later"]) == line


def test_the_first_known_line_counts() -> None:
    found = hint([*HARMLESS, LINES[3][0], LINES[0][0]])
    assert found is not None
    assert found.cause.startswith(LINES[3][1])


# (log, its first error)
LOGS = {
    "clean mlx_lm": ("Starting httpd at 127.0.0.1 on port 8000...\n", None),
    "httpd, then the model fails": (
        "2026-11-02 10:00:00,001 - INFO - Starting httpd at 0.0.0.0 on port 8000...\n"
        "Exception in thread Thread-1 (_generate):\n"
        "Traceback (most recent call last):\n"
        '  File "/v/mlx_lm/utils.py", line 170, in _get_classes\n'
        "    arch = importlib.import_module(name)\n"
        "ModuleNotFoundError: No module named 'mlx_lm.models.llama9'\n"
        "\n"
        "During handling of the above exception, another exception occurred:\n"
        "\n"
        "Traceback (most recent call last):\n"
        '  File "/v/mlx_lm/utils.py", line 174, in _get_classes\n'
        "ValueError: Model type llama9 not supported.\n"
        '127.0.0.1 - - [02/Nov/2026 10:00:01] "GET /v1/models HTTP/1.1" 200 -\n',
        "ModuleNotFoundError: No module named 'mlx_lm.models.llama9'",
    ),
    "a cause, then its consequence": (
        "ValueError: [jaccl] Changing queue pair to RTR failed with errno 22\n"
        "RuntimeError: [jaccl] Recv failed with errno=2\n",
        "ValueError: [jaccl] Changing queue pair to RTR failed with errno 22",
    ),
    "a traceback that was cut off": (
        'Traceback (most recent call last):\n  File "x.py", line 1, in main\n',
        "Traceback (most recent call last):",
    ),
    "an exception without a message": (
        'Traceback (most recent call last):\n  File "x.py", line 1\nKeyboardInterrupt\n',
        "KeyboardInterrupt",
    ),
    "metal, from C++": (
        "Starting httpd at 0.0.0.0 on port 8000...\n"
        "libc++abi: terminating due to uncaught exception of type std::runtime_error\n",
        "libc++abi: terminating due to uncaught exception of type std::runtime_error",
    ),
    "uvicorn, port taken": (
        "INFO:     Started server process [4130]\n"
        "INFO:     Application startup complete.\n"
        "ERROR:    [Errno 48] error while attempting to bind on address ('0.0.0.0', 8000):"
        " address already in use\n",
        "ERROR:    [Errno 48] error while attempting to bind on address ('0.0.0.0', 8000):"
        " address already in use",
    ),
    "uvicorn, running but no app": (
        "INFO:     Uvicorn running on http://0.0.0.0:8000 (Press CTRL+C to quit)\n"
        'ERROR:    Error loading ASGI app. Could not import module "main".\n',
        'ERROR:    Error loading ASGI app. Could not import module "main".',
    ),
    "words that are no errors": (
        "levels are {INFO,ERROR,WARN}\nloading errors.py\nNo errors so far\n",
        None,
    ),
    "empty": ("", None),
}


@pytest.mark.parametrize(("log", "error"), LOGS.values(), ids=LOGS)
def test_first_error(log: str, error: str | None) -> None:
    assert first_error(log.splitlines()) == error


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "exit status unknown"),
        (0, "exit status 0"),
        (1, "exit status 1"),
        (128 + 9, "killed by SIGKILL"),
        (128 + 15, "killed by SIGTERM"),
        (128 + 32, "exit status 160"),
        (255, "exit status 255"),
    ],
)
def test_exit_words(status: int | None, words: str) -> None:
    assert describe_exit(status) == words


def test_where_an_error_ends() -> None:
    """A traceback with the line that names it, each rank's for itself; harmless ones are none."""
    watch = ErrorWatch()
    lines = {
        "rank 0 | Traceback (most recent call last):": False,
        "rank 1 | fine": False,
        "rank 0 |   File x, line 1": False,
        "rank 0 | KeyError: 'a'": True,
        "rank 1 | error: no such thing": True,
        "rank 1 | done": False,
    }
    assert {line: bool(watch.take(line)) for line in lines} == lines
