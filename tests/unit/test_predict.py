"""POST /predict: texts judged beside the stream, within a share, a bound and a patience; no text in any answer."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import threading
import time
import urllib.error
import urllib.request
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.fakes import FakeClassifier
from tests.unit.test_service import until
from worker.app import StartRefused
from worker.metrics import Metrics
from worker.model.classifier import Classifier
from worker.model.models_in_service import Model
from worker.model.turns import Turns
from worker.pipeline.verdicts import Verdicts
from worker.policy.bands import Policy
from worker.predict import predictor as predicting
from worker.predict.openapi import MAX_BODY, document
from worker.predict.predictor import FullError, Predictor, UnansweredError
from worker.predict.server import PredictServer
from worker.settings import SHIPPED_BUNDLE, Settings, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.model.classifier import Prepared, Scores

PRIVATE = "call 09061701461"


class Slow(FakeClassifier):
    """Takes some seconds for each batch, and counts them."""

    def __init__(self, seconds: float = 0.0, token_budget: int = 1000) -> None:
        super().__init__()
        self.engine = SimpleNamespace(token_budget=token_budget)
        self.seconds = seconds
        self.go = threading.Event()
        self.go.set()

    def judge(self, prepared: Sequence[Prepared]) -> Scores:
        assert self.go.wait(5)
        time.sleep(self.seconds)
        return super().judge(prepared)


def model_of(classifier: Any, name: str = "fake@000000000000") -> Model:
    policy = Policy.make(0.5, flag_from=None, block_from=None, on_unscored="unscored")
    return Model(classifier, Verdicts(("ham", "spam"), policy, name))


class World:
    """A predictor on its thread, and a server before it."""

    def __init__(self, classifier: Any, *, share: float = 0.5, room: int = 1024) -> None:
        self.models = [model_of(classifier)]
        self.metrics = Metrics()
        self.predictor = Predictor(lambda: self.models[-1], self.metrics, share=share, room=room)
        self.server = PredictServer(self.predictor, self.metrics, host="127.0.0.1", port=0)
        self.server.start()
        self.thread = threading.Thread(target=self._steps, daemon=True)
        self.thread.start()

    def _steps(self) -> None:
        while self.predictor.step():
            pass

    def close(self) -> None:
        self.predictor.stop()
        self.thread.join(5)
        self.server.close()
        assert not self.thread.is_alive()

    def post(self, body: bytes, path: str = "/predict", **headers: str) -> tuple[int, Any, Any]:
        headers = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        asked = urllib.request.Request(self.server.address + path, data=body, headers=headers)
        return answered(asked)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"hamgate_predict_{name}", labels) or 0.0


def answered(asked: urllib.request.Request) -> tuple[int, Any, Any]:
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), error.headers


@pytest.fixture
def world() -> Iterator[Callable[..., World]]:
    with contextlib.ExitStack() as made:

        def make(classifier: Any = None, **more: Any) -> World:
            new = World(classifier or Slow(), **more)
            made.callback(new.close)
            return new

        yield make


def texts(*given: str) -> bytes:
    return json.dumps({"texts": given}).encode()


def test_each_text_has_a_verdict_in_the_order_given(world: Callable[..., World]) -> None:
    here = world()

    status, said, _ = here.post(texts("win now", "hello", "", "nan"))

    assert status == 200
    assert [(v["label"], v["score"], v["action"], v["reason"]) for v in said["verdicts"]] == [
        ("spam", 0.9, "block", None),
        ("ham", 0.1, "deliver", None),
        (None, None, "unscored", "empty-text"),
        (None, None, "unscored", "non-finite-score"),
    ]
    assert {v["model"] for v in said["verdicts"]} == {"fake@000000000000"}
    assert (here.count("requests_total", outcome="answered"), here.count("texts_total")) == (1, 4)
    assert here.count("seconds_count") == 1


def test_the_shipped_bundle_says_what_hamgate_predict_says(
    world: Callable[..., World], capsys: pytest.CaptureFixture[str]
) -> None:
    from worker.__main__ import main  # noqa: PLC0415

    given = ["WINNER!! Call 09061701461 to claim your prize", "see you at seven", "Ihr Paket wartet: http://x.example"]
    assert main(["predict", "--json", *given]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    here = world(Classifier.load(SHIPPED_BUNDLE, threads=1))
    here.models.append(Model(here.models[0].classifier, from_settings()))

    assert here.post(texts(*given))[1]["verdicts"] == said


def from_settings() -> Verdicts:
    from worker import loading  # noqa: PLC0415

    return loading.model(Settings()).verdicts


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"no json", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[" * 100_000, {}, 400),
        (json.dumps({"texts": PRIVATE}).encode(), {}, 400),
        (json.dumps({"texts": [PRIVATE, 7]}).encode(), {}, 400),
        (json.dumps({"texts": []}).encode(), {}, 400),
        (json.dumps({"texts": ["x"] * 257}).encode(), {}, 400),
        (json.dumps({"texts": [PRIVATE], "more": PRIVATE}).encode(), {}, 400),
        (texts(PRIVATE), {"Content_Type": "text/plain"}, 415),
        (texts(PRIVATE), {"Content_Length": "-1"}, 400),
        (texts(PRIVATE), {"Content_Length": "9" * 5000}, 413),
        (b" " * (MAX_BODY + 1), {}, 413),
    ],
)
def test_what_is_no_request_is_refused_by_what_is_wrong_and_never_with_the_text(
    body: bytes, headers: dict[str, str], status: int, world: Callable[..., World]
) -> None:
    here = world()

    try:
        code, said, _ = here.post(body, **headers)
    except (ConnectionError, urllib.error.URLError):  # hung up on before it had sent all
        assert status == 413
        return

    assert code == status
    assert PRIVATE not in json.dumps(said)
    assert said["error"]
    assert here.count("requests_total", outcome="invalid") == 1


def test_other_paths_and_methods_say_what_there_is(world: Callable[..., World]) -> None:
    here = world()

    assert here.post(texts("x"), path="/elsewhere")[0] == 404
    assert answered(urllib.request.Request(here.server.address + "/predict"))[0] == 405
    status, said, _ = answered(urllib.request.Request(here.server.address + "/openapi.json"))
    assert (status, said) == (200, json.loads(json.dumps(document())))
    assert {"200", "400", "429", "503"} <= set(said["paths"]["/predict"]["post"]["responses"])


def test_a_full_queue_answers_429_at_once_and_takes_texts_again_later(world: Callable[..., World]) -> None:
    slow = Slow()
    slow.go.clear()
    here = world(slow, room=3)
    first = threading.Thread(target=here.post, args=(texts("a", "b", "c"),), daemon=True)
    first.start()
    until(lambda: here.predictor.waiting() == 3)

    status, said, headers = here.post(texts("d"))

    assert (status, headers["Retry-After"]) == (429, "1")
    assert "try again" in said["error"]
    assert here.count("requests_total", outcome="full") == 1
    slow.go.set()
    first.join(5)
    assert here.post(texts("d"))[0] == 200
    assert here.predictor.waiting() == 0


def test_who_has_no_answer_in_time_is_told_and_waits_no_longer() -> None:
    predictor = Predictor(lambda: model_of(Slow()), Metrics(), share=0.5)  # on no thread

    with pytest.raises(UnansweredError):
        predictor.ask(["a"], patience=0.01)

    assert predictor.waiting() == 0


def test_who_waits_when_the_worker_stops_is_told(world: Callable[..., World]) -> None:
    slow = Slow(seconds=0.05)
    here = world(slow, share=0.01)
    found: list[int] = []
    asking = [threading.Thread(target=lambda: found.append(here.post(texts("a"))[0]), daemon=True) for _ in range(3)]
    assert here.post(texts("first"))[0] == 200  # after which it rests for seconds
    for each in asking:
        each.start()
    until(lambda: here.predictor.waiting() == 3)

    here.predictor.stop()

    for each in asking:
        each.join(5)
    assert found == [503, 503, 503]


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_it_takes_no_more_than_its_share_of_the_time(share: float, world: Callable[..., World]) -> None:
    here = world(Slow(seconds=0.01), share=share)
    began, flood = time.monotonic(), threading.Event()

    def ask() -> None:
        while not flood.is_set():
            with contextlib.suppress(UnansweredError, FullError):
                here.predictor.ask(["win"] * 10, patience=0.2)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for each in threads:
        each.start()
    time.sleep(1.5)
    busy, elapsed = here.count("busy_seconds_total"), time.monotonic() - began
    flood.set()
    for each in threads:
        each.join(5)

    assert 0 < busy / elapsed < 1.3 * share


def test_a_turn_has_no_more_tokens_than_the_share_of_a_batch(world: Callable[..., World]) -> None:
    classifier = Slow(token_budget=100)
    here = world(classifier, share=0.1)

    status, said, _ = here.post(texts(*["a b c d"] * 10, "w " * 50))

    assert status == 200
    assert len(said["verdicts"]) == 11
    assert max(classifier.batches[:-1]) == 2  # of 4 tokens; ten are the share
    assert classifier.batches[-1] == 1  # more than the share by itself, and judged all the same


def test_a_new_model_answers_and_the_one_before_is_not_kept(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "_TICK", 0.01)
    here = world()
    assert here.post(texts("a"))[1]["verdicts"][0]["model"] == "fake@000000000000"
    old = weakref.ref(here.models[0].classifier)

    here.models[:] = [model_of(Slow(), "new@111111111111")]

    until(lambda: gc.collect() >= 0 and old() is None)
    assert here.post(texts("a"))[1]["verdicts"][0]["model"] == "new@111111111111"


def test_two_threads_on_one_engine_get_the_answers_of_one_and_leave_torch_as_it_was() -> None:
    stream = Classifier.load(SHIPPED_BUNDLE, threads=2)
    beside = stream.beside()
    given = ["WINNER!! call now", "hello", "see you at seven tonight"] * 20
    expected = stream.judge(stream.prepare(given)).score.tolist()
    alone = stream.judge(stream.prepare(given[:1])).score.tolist()
    threads = torch.get_num_threads()
    found: list[list[float]] = []

    def many() -> None:
        found.extend(beside.judge(beside.prepare(given[:1])).score.tolist() for _ in range(50))

    other = threading.Thread(target=many)
    other.start()
    for _ in range(50):
        assert stream.judge(stream.prepare(given)).score.tolist() == pytest.approx(expected, abs=1e-5)
    other.join()

    assert found == [pytest.approx(alone, abs=1e-5)] * 50
    assert torch.get_num_threads() == threads


def test_it_is_closed_unless_a_port_is_set_and_then_on_loopback() -> None:
    assert Settings().predict_port is None
    assert Settings().predict_host == "127.0.0.1"
    assert load({"predict_port": "0"}).predict_port == 0


def test_a_port_that_is_taken_refuses_the_start_by_the_setting(world: Callable[..., World]) -> None:
    from worker.app import _predict_server  # noqa: PLC0415

    here = world()
    port = here.server.address.rpartition(":")[2]

    with pytest.raises(StartRefused, match=rf"^HAMGATE_PREDICT_PORT: 127\.0\.0\.1 port {port} cannot be used"):
        _predict_server(load({"predict_port": port}), here.metrics, here.predictor)


def test_a_thread_that_judges_without_a_pause_lets_another_have_its_turn() -> None:
    turns, order, over = Turns(), list[str](), threading.Event()

    def stream() -> None:
        while not over.is_set():
            with turns:
                time.sleep(0.02)
                order.append("stream")

    busy = threading.Thread(target=stream, daemon=True)
    busy.start()
    until(lambda: bool(order))
    for _ in range(5):
        with turns:
            order.append("mine")
        until(lambda: order[-1] == "stream")
    over.set()
    busy.join(5)

    between = "".join(each[0] for each in order).split("m")
    assert max(map(len, between[1:-1])) <= 3  # it is the next, or the one after
    assert 0.02 < turns.waited() < 1
    assert not turns._gates


def said_to(here: World, sent: bytes, patience: float = 5) -> list[bytes]:
    """What a connection answers to these bytes, answer by answer, until it is closed. Raises TimeoutError."""
    host, _, port = here.server.address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=patience) as connection:
        connection.sendall(sent)
        with connection.makefile("rb") as answers:
            return answers.read().split(b"HTTP/1.1 ")[1:]


def request(body: bytes, *lines: str, start: str = "POST /predict HTTP/1.1") -> bytes:
    head = [start, "Content-Type: application/json", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (request(b"0\r\n\r\n", "Transfer-Encoding: chunked"), b"411"),
        (request(b"0\r\n\r\n", "Transfer-Encoding: identity"), b"411"),
        (request(texts("hi"), "Content-Length: 3"), b"400"),
        (request(b"", "Transfer-Encoding: chunked", start="GET /openapi.json HTTP/1.1"), b"200"),
        (request(texts("hi"), start="GET /predict HTTP/1.1"), b"405"),
        (request(texts("hi"), start="POST /elsewhere HTTP/1.1"), b"404"),
    ],
)
def test_what_follows_a_body_of_doubtful_length_is_never_taken_for_a_request(
    world: Callable[..., World], first: bytes, status: bytes
) -> None:
    here = world()

    said = said_to(here, first + request(texts("win now")))

    assert [answer[:3] for answer in said] == [status]
    assert b"Connection: close" in said[0]
    assert here.count("texts_total") == 0


@pytest.mark.parametrize(
    "sent",
    [
        request(texts("hi"), start="POST /predict HTTP/1.0"),
        request(texts("hi"), "Connection: keep-alive", start="POST /predict HTTP/1.0"),
        request(texts("hi"), "Connection: TE, Close"),
    ],
)
def test_a_client_that_does_not_keep_connections_is_not_kept_waiting(world: Callable[..., World], sent: bytes) -> None:
    [said] = said_to(world(), sent)

    assert said.startswith(b"200")
    assert b"Connection: close" in said


def test_a_client_that_keeps_its_connection_asks_twice_on_it(world: Callable[..., World]) -> None:
    said = said_to(world(), request(texts("hi")) + request(texts("win now"), "Connection: close"))

    assert [answer[:3] for answer in said] == [b"200", b"200"]


def test_head_answers_as_get_without_a_body(world: Callable[..., World]) -> None:
    [said] = said_to(world(), b"HEAD /openapi.json HTTP/1.1\r\nConnection: close\r\n\r\n")

    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"200")
    assert not body


@pytest.mark.parametrize(
    "broken",
    [b"win now \\ud83d", b"win now \xff", b"win now \xed\xa0\xbd"],
    ids=["half-escape", "no-utf-8", "half-bytes"],
)
def test_a_broken_character_takes_neither_its_text_nor_its_neighbours_out_of_judgement(
    world: Callable[..., World], broken: bytes
) -> None:
    status, said, _ = world().post(b'\xef\xbb\xbf{"texts": ["' + broken + b'", "hello"]}')

    assert status == 200
    assert [(v["label"], v["flags"]) for v in said["verdicts"]] == [("spam", ["repaired"]), ("ham", [])]


def test_a_body_that_is_broken_beyond_its_characters_is_refused_by_its_place(world: Callable[..., World]) -> None:
    status, said, _ = world().post(b'{"texts": ["\xff" "b"]}')

    assert status == 400
    assert said["error"].startswith("JSON is malformed: expected ',' or ']'")
