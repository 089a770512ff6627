"""A real OpenAI client talks to the served model: models, chat, stream."""

from __future__ import annotations

from typing import Any

from conftest import DEADLINE, Inv


def test_client(served: Inv) -> None:
    from openai import OpenAI  # slow to import, and each worker collects this

    served("tp.start")
    url = served("tp.status", "--json").json()["url"]
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=DEADLINE) as client:
        assert client.models.list().object == "list"
        ask: Any = {
            "model": "default_model",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 8,
            "temperature": 0.0,
        }
        answer = client.chat.completions.create(**ask)
        pieces = list(client.chat.completions.create(**ask, stream=True))
    assert answer.usage
    assert answer.usage.completion_tokens == 8
    text = answer.choices[0].message.content
    assert text
    streamed = [choice.delta.content or "" for piece in pieces for choice in piece.choices]
    assert len(streamed) > 1
    assert "".join(streamed) == text
