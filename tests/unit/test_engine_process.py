"""The CPU's engine in a process of its own: the same answers, in order, and no silence when it ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests import bundles
from tests.processes import has_ended, is_gone, watched
from worker.engine import Kind, UnsupportedModelError
from worker.model.bundle import Bundle
from worker.model.classifier import Classifier
from worker.model.engine_process import EngineProcess, EngineProcessError
from worker.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXTS = [f"win a prize, call 0800 {number} now" * (1 + number % 7) for number in range(300)]
MEGABYTE = [[1 + at % 500] * 100 for at in range(4000)]


@pytest.fixture(scope="module")
def here() -> Classifier:
    return Classifier.load(SHIPPED_BUNDLE, Kind.CPU, threads=2)


@pytest.fixture(scope="module")
def there() -> Iterator[EngineProcess]:
    engine = EngineProcess(Bundle.load(SHIPPED_BUNDLE), threads=2)
    yield engine
    engine.close()


def tokens(classifier: Classifier, texts: list[str] = TEXTS) -> list[np.ndarray]:
    return [each.tokens for each in classifier.prepare(texts)]


def test_it_answers_bit_for_bit_what_the_engine_here_does(here: Classifier, there: EngineProcess) -> None:
    given = tokens(here)

    np.testing.assert_array_equal(there.logits(given), here.engine.logits(given))
    assert (there.kind, there.labels, there.token_budget) == (Kind.CPU, here.engine.labels, here.engine.token_budget)
    assert there.pid != os.getpid()


def test_batches_that_are_on_their_way_together_are_answered_each_its_own(
    here: Classifier, there: EngineProcess
) -> None:
    batches = [tokens(here, TEXTS[at : at + 40]) for at in range(0, 300, 40)]

    begun = [there.begin(batch) for batch in batches]

    for batch, each in reversed([*zip(batches, begun, strict=True)]):
        np.testing.assert_array_equal(each.logits(), here.engine.logits(batch))
        assert each.is_done


def test_threads_that_ask_at_once_have_their_own_answers(here: Classifier, there: EngineProcess) -> None:
    given = [tokens(here, TEXTS[at : at + 10]) for at in range(0, 300, 10)]
    expected = [here.engine.logits(batch) for batch in given]
    found: dict[int, bool] = {}

    def ask(at: int) -> None:
        found[at] = all(np.array_equal(there.logits(given[at]), expected[at]) for _ in range(3))

    asking = [threading.Thread(target=ask, args=(at,)) for at in range(len(given))]
    for each in asking:
        each.start()
    for each in asking:
        each.join(60)

    assert found == dict.fromkeys(range(len(given)), True)


@pytest.mark.timeout(60)
def test_more_than_a_pipe_holds_goes_through_it_while_another_is_judged(there: EngineProcess) -> None:
    first, second = there.begin(MEGABYTE), there.begin(MEGABYTE)

    np.testing.assert_array_equal(first.logits(), second.logits())
    assert first.logits().shape == (len(MEGABYTE), there.labels)


def test_no_messages_have_no_logits_and_a_message_without_tokens_is_refused(there: EngineProcess) -> None:
    assert there.logits([]).shape == (0, there.labels)
    with pytest.raises(ValueError, match="without tokens"):
        there.logits([[1], []])


def test_what_fails_there_is_told_by_its_kind_alone_and_the_next_is_answered(there: EngineProcess) -> None:
    with pytest.raises(EngineProcessError, match=r"failed: ValueError$"):
        there.logits([[1] * 100_000])

    assert there.logits([[1, 2]]).shape == (1, there.labels)


@pytest.mark.timeout(60)
def test_when_it_is_killed_whoever_waits_and_whoever_asks_later_is_told() -> None:
    engine = EngineProcess(Bundle.load(SHIPPED_BUNDLE), threads=1)
    assert not engine.has_ended
    os.kill(engine.pid, signal.SIGSTOP)
    begun = engine.begin([[1, 2, 3]])
    assert not begun.is_done

    os.kill(engine.pid, signal.SIGKILL)

    with pytest.raises(EngineProcessError, match="Killed"):
        begun.logits()
    with pytest.raises(EngineProcessError, match="Killed"):
        engine.logits([[1]])
    assert engine.has_ended
    engine.close()


def test_it_ends_with_the_last_reference_to_it() -> None:
    engine = EngineProcess(Bundle.load(SHIPPED_BUNDLE), threads=1)
    pid = engine.pid
    engine.logits([[1, 2]])

    gc.disable()  # by count, not at some later collection
    del engine
    gc.enable()

    assert is_gone(pid)


def test_it_ends_when_the_worker_is_killed() -> None:
    program = (
        "from worker.model.bundle import Bundle; from worker.model.engine_process import EngineProcess\n"
        f"from pathlib import Path; engine = EngineProcess(Bundle.load(Path({str(SHIPPED_BUNDLE)!r})))\n"
        "print(engine.pid, flush=True); import time; time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as worker:
        assert worker.stdout
        with watched(int(worker.stdout.readline())) as process:
            assert not has_ended(process, within=0)

            worker.kill()

            assert has_ended(process, within=20), "it outlives the worker"


def test_a_model_that_is_not_run_is_refused_in_the_same_words(tmp_path: Path) -> None:
    folder = bundles.remade(tmp_path / "odd", recipe={"quantisation": "int3"})

    with pytest.raises(UnsupportedModelError) as alone:
        Classifier.load(folder, Kind.CPU)
    with pytest.raises(UnsupportedModelError) as apart:
        Classifier.load(folder, Kind.CPU, apart=True)

    assert str(apart.value) == str(alone.value)


def test_a_bundle_that_changes_while_it_is_loaded_is_refused(tmp_path: Path) -> None:
    folder = bundles.copy(tmp_path / "nano")
    bundle = Bundle.load(folder)
    bundles.seal(folder, created_at="2026-02-02T00:00:00Z")

    with pytest.raises(EngineProcessError, match="changed while it was loaded"):
        EngineProcess(bundle)


def test_the_worker_itself_loads_no_torch_where_its_engine_is_apart() -> None:
    program = (
        "import sys; from pathlib import Path; from worker.model.classifier import Classifier\n"
        f"classifier = Classifier.load(Path({str(SHIPPED_BUNDLE)!r}), 'cpu', apart=True)\n"
        "classifier.canaries()\n"
        "print('torch' in sys.modules, classifier.engine.kind)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "False cpu\n"
