"""`hamgate bench` measures, and derives its advice from that."""

from __future__ import annotations

import json

import pytest

from tests.fakes import FakeClassifier
from worker import bench
from worker.__main__ import main
from worker.bench import Point, advise
from worker.pipeline.batching import MAX_MESSAGES


def point(budget: int, seconds: float, *, tokens_a_message: float = 25.0) -> Point:
    return Point(budget, float(budget), budget / tokens_a_message, seconds)


def test_the_smallest_budget_that_is_nearly_the_quickest_is_advised() -> None:
    points = [point(1000, 0.010), point(2000, 0.015), point(4000, 0.0290)]

    advice = advise(points, latency_budget=1.0, single_seconds=0.001)

    assert advice.token_budget == 2000  # 5,333 a second, where the quickest has 5,517


def test_a_batch_that_leaves_no_time_to_wait_and_write_is_not_advised() -> None:
    points = [point(1000, 0.010), point(2000, 0.019), point(8000, 0.060)]

    assert advise(points, latency_budget=0.05, single_seconds=0.001).token_budget == 2000


def test_where_even_the_smallest_batch_is_late_it_is_still_the_one_advised() -> None:
    assert advise([point(64, 9.0), point(128, 10.0)], latency_budget=0.1, single_seconds=9.0).token_budget == 64


def test_what_a_batch_and_a_token_cost_is_fitted_to_all_sizes() -> None:
    points = [point(size, 0.002 + 1e-5 * size) for size in (100, 1000, 5000)]

    advice = advise(points, latency_budget=1.0, single_seconds=0.1)

    assert advice.fixed_seconds == pytest.approx(0.002, rel=0.05)
    assert advice.seconds_a_token == pytest.approx(1e-5, rel=0.05)


def test_every_size_up_to_the_engines_own_budget_is_measured() -> None:
    classifier = FakeClassifier()
    classifier.engine = type("Engine", (), {"token_budget": 300})()  # type: ignore[attr-defined]

    points = list(bench.measure(classifier, 0.0))  # type: ignore[arg-type] # what it asks of a classifier is there

    assert [point.budget for point in points] == [64, 128, 256, 300]
    assert all(point.tokens <= point.budget for point in points)
    assert all(point.seconds > 0 for point in points)


def test_no_batch_is_measured_that_has_more_messages_than_a_worker_would_put_in_one() -> None:
    classifier = FakeClassifier()
    classifier.engine = type("Engine", (), {"token_budget": 1_000_000})()  # type: ignore[attr-defined]

    points = list(bench.measure(classifier, 0.0))  # type: ignore[arg-type] # what it asks of a classifier is there

    assert max(point.messages for point in points) == MAX_MESSAGES


def test_the_command_says_what_to_set_in_a_form_that_a_program_reads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--json", "--seconds", "0", "--token-budget", "256"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert said["engine"] == "cpu"
    assert set(said["set"]) == {"HAMGATE_TOKEN_BUDGET"}
    assert 64 <= int(said["set"]["HAMGATE_TOKEN_BUDGET"]) <= 256


def test_a_share_of_the_gpu_bounds_memory_and_multiprocessors_and_a_whole_one_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from worker import engine  # noqa: PLC0415
    from worker.engine import device  # noqa: PLC0415

    shares: list[float] = []
    monkeypatch.setattr(device, "limit_memory", shares.append)
    monkeypatch.setenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "")
    monkeypatch.delenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")

    engine.limit_gpu(1.0)
    assert shares == []

    engine.limit_gpu(0.25)
    assert shares == [0.25]
    assert engine.os.environ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "25"
