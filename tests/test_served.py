"""What a client may call the model, and that no request keeps the ranks waiting for each other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import DEADLINE, Inv, hostfile, own_servers
from rig import Rig

MESSAGES = [{"role": "user", "content": "Hello"}]


class Client:
    """Asks the server that an Inv has started as a user's client would."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, **body: Any) -> requests.Response:
        body = {"messages": MESSAGES, "max_tokens": 2, **body}
        return requests.post(f"{self.url}/v1/chat/completions", json=body, timeout=DEADLINE)

    def post(self, text: str) -> requests.Response:
        """The text as it is: NaN, and what is no JSON; a request's fields where it has none."""
        if text.startswith("{"):
            text = json.dumps({"messages": MESSAGES, "max_tokens": 2})[:-1] + ", " + text[1:]
        url = f"{self.url}/v1/chat/completions"
        return requests.post(url, data=text.encode("latin-1"), timeout=DEADLINE)

    def leave(self, **body: Any) -> None:
        """Ask, and be gone before the answer has come."""
        with requests.Session() as session, suppress(requests.Timeout):
            body = {"messages": MESSAGES, **body}
            session.post(f"{self.url}/v1/chat/completions", json=body, timeout=0.5, stream=True)

    def models(self, name: str = "") -> requests.Response:
        return requests.get(f"{self.url}/v1/models{name}", timeout=DEADLINE)


CACHED = """
hub=~/xdg/huggingface/hub/models--org--tiny; mkdir -p $hub/refs $hub/snapshots
printf 0a1b >$hub/refs/main; ln -s ~/models/M $hub/snapshots/0a1b
echo 'export XDG_CACHE_HOME=$HOME/xdg' >>~/.zshenv
"""


@pytest.fixture
def apart(inv: Inv, home: Path, tiny: Path, macs: Callable[..., Rig]) -> Iterator[Rig]:
    """Two hosts, each with ~/models/M and another model in a home of another name."""
    rig = macs()
    for host in rig.names:
        rig.run(host, f"mkdir ~/models && cp -R {tiny} ~/models/M && cp -R {tiny} ~/models/Other")
    hosts = [{"ssh": name, "ips": [rig.address(name)]} for name in rig.names]
    file = hostfile(home / "hosts.json", hosts, Path("~/models/M"), inv.port, python=sys.executable)
    inv.env["INVOKE_TP_HOSTFILE"] = str(file)
    inv.config = own_servers(home / "config.json", Path("models/M"))
    yield rig
    rig.end()


def test_names(inv: Inv, apart: Rig) -> None:
    """Field case 92, and the curl that users know, word for word."""
    # Field case 98: as bash and zsh leave it, which without us is no path to anybody.
    started = inv("tp.start", args=("--model=~/models/M",))
    assert "clients ask for the model M" in started.err
    url, curl = started.out.splitlines()
    assert '"model": "M"' in curl
    client = Client(url)
    ids = [each["id"] for each in client.models().json()["data"]]
    assert ids == ["M"]
    for name in (*ids, "M", "default_model", "~/models/M", "/Users/mac1/models/M"):
        answer = client.ask(model=name)
        assert (answer.status_code, answer.json()["model"]) == (200, name)
    assert client.ask().status_code == 200
    # A path of rank 0's, a path that all have, the other rank's own.
    for name in ("/Users/mac1/models/Other", "../Other", "/Users/mac2/models/M", "m", ""):
        answer = client.ask(model=name)
        assert answer.status_code == 404
        assert answer.json()["error"].endswith("ask for 'M'")
    known = "curl {}/v1/chat/completions -H \"Content-Type: application/json\" -d '{}'"
    body = '{"model": "M", "messages": [{"role": "user", "content": "Hello"}]}'
    said = apart.run("mac2", f"{known.format(url, body)} -s").stdout
    assert json.loads(said)["usage"]["completion_tokens"] > 0
    hostile(client)
    assert inv("tp.status", "--json").json()["state"] == "ready"
    inv("tp.chat", "Hello", "--max-tokens", "2")
    inv("tp.stop")


def test_a_cache_that_the_nodes_shells_name(inv: Inv, apart: Rig) -> None:
    """Field case 96."""
    for host in apart.names:
        apart.run(host, CACHED)
    skip = "memory,processes,ports,versions,cooldown,hosts"
    done = inv("tp.preflight", "--skip", skip, args=("--model", "org/tiny"))
    found = "xdg/huggingface/hub/models--org--tiny/snapshots/0a1b"
    for host in apart.names:
        assert f"/Users/{host}/{found}, " in done.out
    missing = inv("tp.preflight", "--skip", skip, args=("--model", "org/none"), code=3)
    assert "org/none is not there" in missing.out


# Each of these ended a rank of mlx-lm 0.32.2, or kept all of them waiting for ever.
HOSTILE: list[dict[str, Any]] = [
    {"logit_bias": {"99999999": 5}},
    {"stop": [5]},
    {"stop": 5},
    {"stop": ["\ud83d"]},
    {"top_k": 10**6, "temperature": 1.0},
    {"top_k": 10**6, "temperature": 1.0, "seed": 1},
    {"seed": -1},
    {"min_p": float("nan"), "temperature": 1},
    {"xtc_probability": 0.5, "xtc_threshold": 0.9, "temperature": 1},
    {"temperature": 10**400},
    {"presence_penalty": 1, "presence_context_size": 10**30},
    {"chat_template_kwargs": {"chat_template": ""}},
    {"chat_template_kwargs": {"return_tensors": "np"}},
    {"adapters": "/Users/mac1/models/Other"},
    {"draft_model": "/Users/mac1/models/Other"},
]


def hostile(client: Client) -> None:
    for body in HOSTILE:
        assert client.post(json.dumps(body)).status_code == (200 if "top_k" in body else 404)
    deep = '{"messages": [{"role": "user", "content": "", "x": ' + "[" * 900 + "]" * 900 + "}]}"
    assert client.post(deep).status_code == 404
    for text in ('{"logit_bias": {"5": null}}', '{"x": ' + "9" * 5000 + "}", "[" * 10**5, "\xff"):
        assert client.post(text).status_code == 400
    ended = client.post('{"stream": true, "stream_options": {}}').text
    assert ended.endswith("data: [DONE]\n\n")
    for prompt in ("", ["a"], "\ud83d"):
        answer = requests.post(
            f"{client.url}/v1/completions", json={"prompt": prompt}, timeout=DEADLINE
        )
        assert answer.status_code == 404
    # Who has gone: of an answer that has no end, and of one that rank 0 alone would break off.
    client.leave(max_tokens=10**30)
    client.leave(max_tokens=10**30, stream=True, seed=1)
    client.leave(max_tokens=10**30, seed=1)
    assert client.ask().status_code == 200
