"""A language model behind an OpenAI-compatible address (llama.cpp's server, Ollama, vLLM): asked
again when it fails, answers kept, costs counted."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import httpx

from minigpt.errors import MiniGPTError
from minigpt.shown import Shown

Messages = Sequence[Mapping[str, str]]
# What is worth asking again: too many at once, and what may be better in a moment.
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
LONGEST = 30.0


class EndpointError(MiniGPTError):
    """A language model that does not answer."""


@dataclass(repr=False)
class Endpoint(Shown):
    """url: up to /v1; model: its name there; key: OPENAI_API_KEY, where the server wants one.

    seconds: how long one answer may take; tries: how often it is asked; at_once: how many questions
    may wait for their answers; kept: the file of answers, a JSON object a line with what was asked,
    or None. Counts what it did: asked, answered from the file, tokens read and written.
    """

    url: str
    model: str
    kept: Path | None = None
    seed: int = 0
    seconds: float = 60.0
    tries: int = 4
    pause: float = 1.0
    at_once: int = 4
    asked: int = 0
    known: int = 0
    read: int = 0
    written: int = 0
    _answers: dict[str, str] = field(default_factory=dict, repr=False)
    _alone: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        if self.kept is not None and self.kept.is_file():
            for line in self.kept.read_text("utf-8").splitlines():
                row = json.loads(line)
                self._answers[row["id"]] = row["answer"]

    def ask(self, messages: Messages, longest: int = 200) -> str:
        """The answer's text, the same one as before where the same was asked.

        Raises EndpointError where none comes.
        """
        body = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "max_tokens": longest,
            "temperature": 0,
            "seed": self.seed,
        }
        name = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        with self._alone:
            if name in self._answers:
                self.known += 1
                return self._answers[name]
        reply = self._reply(body)
        answer = self._text(reply)
        usage = reply.get("usage") or {}
        with self._alone:
            self.read += int(usage.get("prompt_tokens") or 0)
            self.written += int(usage.get("completion_tokens") or 0)
            self._keep(name, body, reply, answer)
        return answer

    def _reply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The reply as JSON, asked for again while there is hope."""
        key, why = os.environ.get("OPENAI_API_KEY"), ""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        address = f"{self.url.rstrip('/')}/chat/completions"
        for attempt in range(self.tries):
            with self._alone:
                self.asked += 1
            wait = min(LONGEST, self.pause * 2**attempt)
            try:
                reply = httpx.post(address, json=body, headers=headers, timeout=self.seconds)
                if reply.status_code == httpx.codes.OK:
                    found: dict[str, Any] = reply.json()
                    return found
                why = f"{reply.status_code}: {reply.text[:200]}"
                if reply.status_code not in AGAIN:
                    break
                wait = min(LONGEST, _after(reply.headers.get("retry-after"), wait))
            except (httpx.HTTPError, json.JSONDecodeError) as error:
                why = f"{type(error).__name__}: {error}"
                if isinstance(error, httpx.ConnectError):  # nobody is there
                    break
            time.sleep(wait if attempt + 1 < self.tries else 0)
        raise EndpointError(
            f"{address} gave no answer ({why})",
            "an OpenAI-compatible server that knows the model",
            "--explainer http://localhost:8000/v1 --explainer-model NAME",
        )

    def _text(self, reply: Mapping[str, Any]) -> str:
        try:
            text: str = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise EndpointError(
                f"{self.url} answered without a text: {json.dumps(reply)[:200]}",
                "choices[0].message.content",
            ) from error
        return text or ""

    def _keep(self, name: str, body: Any, reply: Any, answer: str) -> None:
        self._answers[name] = answer
        if self.kept is not None:
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            row = {"id": name, "asked": body, "answer": answer, "reply": reply}
            with self.kept.open("a", encoding="utf-8") as out:
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _after(said: str | None, usual: float) -> float:
    """How long the server wants to be left alone."""
    try:
        return max(0.0, float(said)) if said else usual
    except ValueError:
        return usual
