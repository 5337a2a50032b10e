"""The endpoint's client against a server on loopback that misbehaves."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from prereq.graph.errors import ConfigError, PrereqError
from prereq.graph.skill import Skill
from prereq.selector.corpus.endpoint import Asker, EndpointConfig, _wait, cache_folder, read_answer

SKILLS = [Skill(id="baking", description="bread and ovens"), Skill(id="sailing"), Skill(id="music")]
KEY = "sk-secret-4711"


class Server(ThreadingHTTPServer):
    """Answers with the skill whose name a document holds; `script` says what goes wrong first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Any] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.pause_s = 0.0

    def handle_error(self, *_: Any) -> None:
        """A client that went away is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.bodies.append(body)
            server.keys.append(self.headers["Authorization"])
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            step = server.script.pop(0) if server.script else None
        time.sleep(server.pause_s)
        try:
            self.respond(step, body)
        finally:
            with server.lock:
                server.at_once -= 1

    def respond(self, step: Any, body: dict[str, Any]) -> None:
        if isinstance(step, float):
            time.sleep(step)
        elif isinstance(step, int):
            self.send(
                step, b'{"error": "no, ' + (self.headers["Authorization"] or "").encode() + b'"}', {"Retry-After": "0"}
            )
            return
        elif isinstance(step, bytes):
            self.send(200, step)
            return
        elif step == "hang up":
            self.connection.close()
            return
        documents = body["messages"][1]["content"].split("Document ")[1:]
        tags = {text.split(":")[0]: [s.id for s in SKILLS if s.id in text] for text in documents}
        message = {"choices": [{"message": {"content": "Sure:\n```json\n" + json.dumps(tags) + "\n```"}}]}
        self.send(200, json.dumps({**message, "usage": {"prompt_tokens": 100, "completion_tokens": 10}}).encode())

    def send(self, code: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def asker(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asker]:
    monkeypatch.setenv("TEST_KEY", KEY)

    def make(**more: Any) -> Asker:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        options = {"batch": 2, "backoff_s": 0.001, "timeout_s": 5.0, "key_variable": "TEST_KEY", **more}
        config = EndpointConfig(url=url, model="m", **options)
        return Asker(config, SKILLS, 2, cache_folder(config, tmp_path))

    return make


TEXTS = ["about baking", "nothing", "music and sailing", "sailing", "baking music sailing"]
EXPECTED: list[Any] = [[0], [], [1, 2], [1], [0, 1]]


def test_answers_in_order_and_asked_once(server: Server, asker: Callable[..., Asker], tmp_path: Path) -> None:
    first = asker(price_in=10.0, price_out=100.0)
    assert first.ask(TEXTS) == EXPECTED
    usage = first.usage
    assert (usage.questions, usage.cached, usage.tokens_in, usage.tokens_out) == (3, 0, 300, 30)
    assert usage.cost == pytest.approx(300 * 10e-6 + 30 * 100e-6)
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert "bread and ovens" in server.bodies[0]["messages"][0]["content"]
    again = asker(price_in=10.0, price_out=100.0)
    assert again.ask(TEXTS) == EXPECTED
    assert (again.usage.questions, again.usage.cached, len(server.bodies)) == (0, 3, 3)
    assert again.usage.cost == usage.cost
    assert asker().ask(["about baking", "other music"]) == [[0], [2]]
    assert len(server.bodies) == 4
    assert all(KEY not in path.read_text() for path in tmp_path.rglob("*.json"))


def test_tries_again_after_what_may_pass(server: Server, asker: Callable[..., Asker]) -> None:
    server.script = [429, 503, "hang up", b"<html>", b'{"choices": []}']
    made = asker(concurrency=1)
    assert made.ask(TEXTS[:2]) == EXPECTED[:2]
    assert (made.usage.retries, made.usage.questions) == (5, 1)


def test_a_time_out_is_tried_again(server: Server, asker: Callable[..., Asker]) -> None:
    server.script = [0.6]
    made = asker(timeout_s=0.2)
    assert made.ask(["music"]) == [[2]]
    assert made.usage.retries == 1


def test_a_failure_keeps_what_was_answered_and_names_no_key(server: Server, asker: Callable[..., Asker]) -> None:
    server.script = [None, 500, 500, 500]
    made = asker(concurrency=1, retries=2)
    with pytest.raises(
        PrereqError, match=r"chat/completions failed 3 times, last with HTTP 500 .*run the same"
    ) as error:
        made.ask(TEXTS)
    assert KEY not in str(error.value)
    again = asker()
    assert again.ask(TEXTS) == EXPECTED
    assert again.usage.cached >= 1


@pytest.mark.parametrize("code", [400, 401, 404, 307])
def test_a_refusal_is_not_tried_again(server: Server, asker: Callable[..., Asker], code: int) -> None:
    server.script = [code]
    with pytest.raises(
        PrereqError, match=rf"refuses the question: HTTP {code}.*no, Bearer \[key\].*key_variable"
    ) as error:
        asker(concurrency=1).ask(["music"])
    assert KEY not in str(error.value)
    assert len(server.bodies) == 1


def test_questions_under_way_are_bounded(server: Server, asker: Callable[..., Asker]) -> None:
    server.pause_s = 0.05
    asker(concurrency=3, batch=1).ask([f"music {n}" for n in range(12)])
    assert 2 <= server.most_at_once <= 3


def test_the_budget_is_never_passed_and_does_not_depend_on_the_cache(
    server: Server, asker: Callable[..., Asker]
) -> None:
    texts = [f"music {n}" for n in range(40)]
    probe = asker(batch=1, price_in=1000.0)
    worst = probe._worst_cost(probe._body(texts[:1]))
    options = {"batch": 1, "concurrency": 2, "price_in": 1000.0, "budget": 3 * worst}
    made = asker(**options)
    found = made.ask(texts)
    assert made.usage.cost <= 3 * worst
    assert 2 < made.usage.questions < 40
    assert found == [[2]] * made.usage.questions + [None] * made.usage.unasked
    again = asker(**options)
    assert again.ask(texts) == found
    assert (again.usage.questions, again.usage.cached) == (0, made.usage.questions)
    assert asker(price_in=1.0, budget=0.0).ask(["music"]) == [None]


def test_answers_are_data() -> None:
    read = lambda text: read_answer(text, 2, SKILLS, 2)  # noqa: E731
    assert read('{"1": ["music", "music", "sailing", "baking"], "2": []}') == ([[2, 1], []], 0)
    assert read('{"1": ["rowing", 3, ["music"], "music"]}') == ([[2], None], 3)
    for text in ("", "no", "{", '["music"]', '{"1": "music"}', "{" * 100_000 + "}"):
        assert read(text) == ([None, None], 0)


def test_waits_as_the_server_asks_but_not_for_ever() -> None:
    assert _wait(2.0, None) == 2.0
    assert _wait(2.0, "7") == 7.0
    assert _wait(2.0, "99999") == 60.0
    assert _wait(2.0, "soon") == 2.0
    assert _wait(2.0, "nan") == 2.0
    assert _wait(2.0, "Thu, 01 Jan 1970 00:00:00 GMT") == 0.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"url": "ftp://a"}, "is not an http"),
        ({"url": "http://me:key@host/v1"}, "key_variable"),
        ({"model": ""}, "model: is empty"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"budget": 1.0}, "needs price_in"),
        ({"price_in": -1.0}, "price_in must be 0 or more"),
        ({"timeout_s": 0.0}, "timeout_s must be above 0"),
    ],
)
def test_config_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EndpointConfig(**{"url": "http://localhost/v1", "model": "m", **values})
