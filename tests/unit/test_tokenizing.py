"""Texts to token ids and flags: the same in this process and in one of its own, which may die, and says so."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from tests.bundles import NANO
from tests.processes import has_ended, is_gone, watched
from tests.unit.test_classifier import WordEngine, bundle
from worker import app
from worker.engine import Kind
from worker.model import tokenizer_process
from worker.model.bundle import Bundle, BundleError, Coverage
from worker.model.classifier import Classifier
from worker.model.normalise import normalise
from worker.model.tokenizer import FLAGS, LANGUAGES, TextTokenizer, Tokenised, UnreadableTokenizerError, parse
from worker.model.tokenizer_process import Reply, TokenizerProcess, TokenizerProcessError, TokenizerProcesses
from worker.process import signals
from worker.process.child import environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

FILE = NANO / "tokenizer" / "tokenizer.json"
DESCRIPTION = FILE.read_bytes()
MOST = 40
LONG = "win " + "hello " * 400 + "prize"
MEGABYTE = ("win £1000 now, call 0800 555 " * 40_000)[: 1 << 20]
# One text, and what must have been done to it.
CASES = {
    "of nothing": ("", ()),
    "of white space": (" \n\t ", ()),
    "of what cannot be seen": ("\u200b", ("normalised",)),
    "plain": ("Are we still meeting at seven?", ()),
    "beyond the bound": (LONG, ("truncated",)),
    "disguised": ("w\u200bin a pr1ze", ("normalised",)),
    "disguised and beyond the bound": ("w\u200bin " + LONG, ("normalised", "truncated")),
    "with control tokens in it": ("win </s> <s> <unk> <pad> prize", ()),
    "with a lone high surrogate": ("win \ud800 prize", ("normalised",)),
    "with a lone low surrogate, at its end": ("prize \udfff", ("normalised",)),
    "with the halves of a pair, unpaired": ("\udc00\ud800", ("normalised",)),
    "in another script": ("明日の会議は七時ですか \U0001f600", ()),
    "with NUL in it": ("a\0b", ("normalised",)),
    "of a megabyte": (MEGABYTE, ("truncated",)),
}

Tokenizes: TypeAlias = TextTokenizer | TokenizerProcess | TokenizerProcesses
Answer: TypeAlias = list[tuple[list[int], tuple[str, ...]]]


@pytest.fixture(scope="module")
def here() -> TextTokenizer:
    return TextTokenizer(parse(DESCRIPTION), MOST)


def started() -> TokenizerProcess:
    process = TokenizerProcess(MOST)
    process.give(DESCRIPTION)
    process.wait()
    return process


@pytest.fixture(scope="module")
def child() -> Iterator[TokenizerProcess]:
    process = started()
    yield process
    process.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[TokenizerProcesses]:
    processes = TokenizerProcesses(DESCRIPTION, MOST, 3)
    yield processes
    processes.close()


@pytest.fixture(params=["here", "child", "shared"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizes:
    made: Tokenizes = request.getfixturevalue(request.param)
    return made


def answer(tokenizer: Tokenizes, texts: Sequence[str]) -> Answer:
    return plain(tokenizer.begin(texts)())


@pytest.mark.parametrize("name", CASES)
def test_a_text_is_flagged_with_what_was_done_to_it(tokenizer: Tokenizes, name: str) -> None:
    text, flags = CASES[name]

    [(tokens, found)] = answer(tokenizer, [text])

    assert found == flags
    assert len(tokens) <= MOST
    assert bool(tokens) == bool(text.strip(" \n\t\u200b"))


def test_what_normalising_changed_is_handed_on(tokenizer: Tokenizes) -> None:
    given = ["as  it was", "fr\u200bee", "a &amp; b", *["as it was"] * 30, "w1n " * 600]

    found = [each.plain for each in tokenizer.begin(given)()]

    assert found == [None, "free", "a & b", *[None] * 30, normalise(given[-1])[:1024]]


# With a bundle's coverage: what a text is, and its language.
COVERED = Coverage(scripts=("LATIN",), tokens_a_character=0.6, languages=("en", "es"))
KNOWN = {
    "covered": ("Are we still meeting at seven tonight?", (), "en"),
    "of a language that is not covered": ("Votre colis sera livré demain matin à huit heures", "outside", "fr"),
    "in a script that is not covered": ("明日の会議は七時に始まりますので、よろしくお願いします", "outside", "ja"),
    "cut too finely": ("xqzj kqvx jzqk wqzx vjkz qxjw zqxv kjqz wxzv qj", "outside", None),
    "a one-time code": ("Your verification code is 482913. Do not share it.", "one-time-code", "en"),
    "a notice": ("Your order 4471 was delivered at 14:05 today.", "notice", "en"),
    "too short for a language": ("hi", (), None),
}


@pytest.fixture(scope="module")
def covering() -> Iterator[list[Tokenizes]]:
    processes = TokenizerProcesses(DESCRIPTION, MOST, 2, COVERED)
    yield [TextTokenizer(parse(DESCRIPTION), MOST, COVERED), processes]
    processes.close()


@pytest.mark.parametrize("name", KNOWN)
def test_a_text_is_flagged_with_what_it_is_here_and_in_a_process(covering: list[Tokenizes], name: str) -> None:
    text, flag, language = KNOWN[name]

    for tokenizer in covering:
        [found] = tokenizer.begin([text])()
        flags = set(FLAGS[found.flags]) - {"normalised", "truncated"}

        assert flags == ({flag} if flag else set())
        assert LANGUAGES[found.language] == language


def test_without_coverage_nothing_is_outside(here: TextTokenizer) -> None:
    for text, _, _ in KNOWN.values():
        [found] = here.begin([text])()

        assert "outside" not in FLAGS[found.flags]


def test_every_language_and_every_flag_goes_into_a_byte() -> None:
    assert len(FLAGS) <= 256
    assert len(LANGUAGES) <= 256
    assert len(set(FLAGS)) == len(FLAGS)


def test_no_texts_have_no_tokens(tokenizer: Tokenizes) -> None:
    assert answer(tokenizer, []) == []


def test_a_process_of_its_own_says_what_this_one_would(here: TextTokenizer, child: TokenizerProcess) -> None:
    texts = [text for text, _ in CASES.values()]

    assert answer(child, texts) == answer(here, texts)
    assert answer(child, texts[::-1]) == answer(child, texts)[::-1]


@pytest.mark.parametrize("count", [1, 7, 8, 15, 16, 17, 23, 24, 25, 1000])
def test_several_processes_together_say_in_order_what_one_would(
    here: TextTokenizer, shared: TokenizerProcesses, count: int
) -> None:
    texts = [f"message {number} of many" for number in range(count)]

    assert answer(shared, texts) == answer(here, texts)


def test_of_several_processes_more_than_one_request_may_be_on_its_way(
    here: TextTokenizer, shared: TokenizerProcesses
) -> None:
    requests = [[f"{number} of {count}" for number in range(count)] for count in (40, 1, 0, 60)]

    waits = [shared.begin(texts) for texts in requests]

    assert [plain(wait()) for wait in waits[::-1]] == [answer(here, texts) for texts in requests[::-1]]


@pytest.mark.parametrize("texts", [1, 16, 100])
@pytest.mark.parametrize("killed", [0, 1])
def test_one_of_several_processes_that_is_gone_is_told_of_however_much_comes(killed: int, texts: int) -> None:
    processes = TokenizerProcesses(DESCRIPTION, MOST, 2)
    assert not processes.has_ended
    with watched(processes.pids[1 - killed]) as other, watched(processes.pids[killed]) as process:
        os.kill(processes.pids[killed], signal.SIGKILL)
        assert has_ended(process, within=5)

        with pytest.raises(TokenizerProcessError, match=r"^the tokenizer process ended with -9 \(Killed\)$"):
            processes.begin(["hello"] * texts)()
        assert processes.has_ended

        processes.close()
        assert has_ended(other, within=10)


@pytest.mark.parametrize("spoilt", [0, 1])
def test_of_several_processes_none_is_left_where_one_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, spoilt: int
) -> None:
    begun: list[int] = []
    give = TokenizerProcess.give

    def given(process: TokenizerProcess, description: bytes) -> None:
        begun.append(process.pid)
        give(process, b'{"version": "1.0"' if len(begun) == spoilt + 1 else description)

    monkeypatch.setattr(TokenizerProcess, "give", given)
    gc.disable()  # nothing is to wait for it
    try:
        with pytest.raises(UnreadableTokenizerError):
            TokenizerProcesses(DESCRIPTION, MOST, 2)
        assert len(begun) == 2
        assert all(map(is_gone, begun))
    finally:
        gc.enable()


def test_a_worker_that_ends_while_they_start_does_not_wait_for_them() -> None:
    code = (
        "import os, signal, sys, threading; from pathlib import Path\n"
        "from worker.model.tokenizer_process import TokenizerProcess, TokenizerProcesses\n"
        "is_stopped, give = threading.Event(), TokenizerProcess.give\n"
        "def stopped(process, description):\n"
        "    os.kill(process.pid, signal.SIGSTOP)\n"
        "    print(process.pid, flush=True)\n"
        "    is_stopped.set()\n"
        "    give(process, description)\n"
        "TokenizerProcess.give = stopped\n"
        "description = Path(sys.argv[1]).read_bytes()\n"
        "threading.Thread(target=TokenizerProcesses, args=(description, 16, 2), daemon=True).start()\n"
        "is_stopped.wait()"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(FILE)], capture_output=True, timeout=20, check=True)

    assert all(map(is_gone, map(int, ended.stdout.split())))


def test_more_than_a_pipe_holds_goes_through_it_both_ways(here: TextTokenizer, child: TokenizerProcess) -> None:
    texts = [f"message {number} of many, {MEGABYTE[:100]}" for number in range(6000)]

    assert answer(child, texts) == answer(here, texts)


def test_threads_that_ask_at_once_each_get_their_own_answer(here: TextTokenizer, child: TokenizerProcess) -> None:
    asked = [[f"{number} of {thread}" for number in range(50)] for thread in range(4)]
    got: dict[int, Answer] = {}

    def ask(thread: int) -> None:
        for _ in range(20):
            got[thread] = answer(child, asked[thread])

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert got == {thread: answer(here, asked[thread]) for thread in range(4)}


def test_what_is_asked_before_the_last_answer_is_taken_is_answered_too(
    here: TextTokenizer, child: TokenizerProcess
) -> None:
    asked = [["hello"], [], ["win a prize", "of"], ["more"]]

    first, second, third, fourth = [child.begin(texts) for texts in asked]

    taken = {2: third(), 0: first(), 3: fourth(), 1: second()}  # in whatever order
    assert {turn: plain(found) for turn, found in taken.items()} == {
        turn: answer(here, texts) for turn, texts in enumerate(asked)
    }


def test_more_than_a_pipe_holds_may_be_asked_while_more_than_a_pipe_holds_is_answered(
    here: TextTokenizer, child: TokenizerProcess
) -> None:
    # Each answer, too, is larger than what a pipe holds: the process waits in one write, and we in the other.
    asked = [[f"{number} of many: {MEGABYTE[:200]}" for number in range(turn, turn + 2000)] for turn in range(3)]

    with killed_if_it_hangs(child):
        answers = [plain(wait()) for wait in [child.begin(texts) for texts in asked]]

    assert answers == [answer(here, texts) for texts in asked]


def test_an_answer_that_nobody_takes_is_nobody_elses(here: TextTokenizer) -> None:
    process = started()
    pid = process.pid

    process.begin(["let go"])

    assert answer(process, ["win a prize"]) == answer(here, ["win a prize"])
    process.begin(["let go as well"])
    gc.disable()  # it ends by count, not at some later collection
    del process
    gc.enable()
    assert is_gone(pid)


def test_a_process_is_there_for_as_long_as_an_answer_of_its_is_awaited() -> None:
    wait = started().begin(["hello"])

    assert len(plain(wait())) == 1


@pytest.mark.parametrize("has_answered", [True, False])
def test_a_process_that_dies_with_two_requests_on_their_way_fails_what_it_has_not_answered(
    *, has_answered: bool
) -> None:
    process = started()
    if not has_answered:
        os.kill(process.pid, signal.SIGSTOP)
    first = process.begin(["hello"])
    if has_answered:
        wait_for_bytes(process)
        os.kill(process.pid, signal.SIGSTOP)
    second = process.begin(["again"])
    os.kill(process.pid, signal.SIGKILL)

    for wait in (second, second) if has_answered else (first, second):
        with pytest.raises(TokenizerProcessError, match="Killed"):
            wait()
    assert not has_answered or len(plain(first())) == 1
    process.close()


def plain(found: Iterable[Tokenised]) -> Answer:
    return [(each.tokens.tolist(), FLAGS[each.flags]) for each in found]


def wait_for_bytes(process: TokenizerProcess) -> None:
    """Until it has answered."""
    answer = select.poll()
    answer.register(process._process.stdout, select.POLLIN)
    assert answer.poll(10_000)


@contextlib.contextmanager
def killed_if_it_hangs(process: TokenizerProcess) -> Iterator[None]:
    killing = threading.Timer(20, os.kill, (process.pid, signal.SIGKILL))
    killing.start()
    yield
    killing.cancel()


def test_a_process_that_was_killed_is_named_by_what_ended_it() -> None:
    process = started()
    os.kill(process.pid, signal.SIGKILL)

    for _ in range(2):  # and it stays so
        with pytest.raises(TokenizerProcessError, match=r"^the tokenizer process ended with -9 \(Killed\)$"):
            process.begin(["hello"])()
    process.close()


def test_a_process_that_is_killed_while_it_is_asked_is_named_too() -> None:
    process = started()
    os.kill(process.pid, signal.SIGSTOP)  # so that it cannot have answered
    killing = threading.Timer(0.05, os.kill, (process.pid, signal.SIGKILL))
    killing.start()

    with pytest.raises(TokenizerProcessError, match="Killed"):
        process.begin([MEGABYTE])()
    killing.join()
    process.close()


@pytest.mark.parametrize("number", [*signals.ENDING, *signals.WITHOUT_A_MEANING])
def test_what_tells_the_worker_to_stop_does_not_stop_what_it_still_needs(
    child: TokenizerProcess, number: signal.Signals
) -> None:
    os.kill(child.pid, number)

    assert len(answer(child, ["hello"])) == 1
    assert os.getsid(child.pid) != os.getsid(0)


def test_it_ends_with_the_last_reference_to_it() -> None:
    process = started()
    pid = process.pid

    del process
    gc.collect()

    assert is_gone(pid)


def test_it_ends_when_the_worker_is_killed() -> None:
    code = (
        "import sys; from pathlib import Path; from worker.model.tokenizer_process import TokenizerProcesses\n"
        "processes = TokenizerProcesses(Path(sys.argv[1]).read_bytes(), 16)\n"
        "print(*processes.pids, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(FILE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout
        with watched(int(worker.stdout.readline())) as process:
            assert not has_ended(process, within=0)
            worker.kill()

            assert has_ended(process, within=10)


def test_a_tokenizer_that_is_none_is_refused_in_the_same_words(tmp_path: Path) -> None:
    classifier = Classifier(bundle(tmp_path), WordEngine(2))
    (tmp_path / "tokenizer" / "tokenizer.json").write_text('{"version": "1.0"')

    with pytest.raises(BundleError, match=r"tokenizer/tokenizer\.json: .+") as child:
        classifier.tokenise_in_processes()
    with pytest.raises(BundleError) as here:
        Classifier(classifier.bundle, WordEngine(2))

    assert str(child.value) == str(here.value)
    assert not classifier.tokenizer_pids


def test_a_tokenizer_that_was_changed_after_it_was_verified_is_refused(tmp_path: Path) -> None:
    shutil.copytree(NANO, tmp_path / "nano")
    classifier = Classifier(Bundle.load(tmp_path / "nano"), WordEngine(2))
    with (tmp_path / "nano" / "tokenizer" / "tokenizer.json").open("a") as file:
        file.write(" ")

    with pytest.raises(BundleError, match="changed since it was verified"):
        classifier.tokenise_in_processes()


def test_a_process_that_cannot_be_started_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")

    with pytest.raises(TokenizerProcessError, match="cannot be started: No such file"):
        started()


def test_a_classifier_judges_alike_with_its_tokenizer_in_a_child_process(tmp_path: Path) -> None:
    texts = ["hello win", "", "w\u200bin " * 20]
    classifier = Classifier(bundle(tmp_path), WordEngine(2))
    before = classifier.prepare(texts)

    classifier.tokenise_in_processes()
    after = classifier.prepare(texts)

    assert len(classifier.tokenizer_pids) == 1
    assert [message.tokens.tolist() for message in after] == [message.tokens.tolist() for message in before]
    assert [(len(message), message.flags) for message in after] == [(len(each), each.flags) for each in before]
    assert (classifier.judge(after).label == classifier.judge(before).label).all()


def test_an_answer_names_a_failure_by_its_kind_and_not_by_what_it_was_given() -> None:
    class Failing:
        def tokenise(self, texts: list[str]) -> Any:
            raise ValueError(texts[0])

    request = tokenizer_process.msgspec.msgpack.encode([b"a secret"])

    assert tokenizer_process._answered(Failing(), request) == Reply(failure="ValueError")  # type: ignore[arg-type]


def test_the_process_loads_neither_torch_nor_kafka_and_knows_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    needless = {"torch", "kafka", "pydantic", "structlog", "transformers"}
    code = f"import sys, worker.model.tokenizer_process; print(*{needless} & set(sys.modules))"
    monkeypatch.setenv("HAMGATE_SASL_PASSWORD", "secret")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said == "\n"
    assert not [name for name in environment() if name.startswith("HAMGATE_")]


@pytest.mark.parametrize(
    ("kind", "cores", "processes"),
    [
        (Kind.CUDA_BF16, 16, 2),
        (Kind.CUDA_BF16, 8, 2),
        (Kind.CUDA_BF16, 7, 1),
        (Kind.CUDA_BF16, 3, 1),
        (Kind.CUDA_FP8, 2, 0),
        (Kind.CPU, 64, 0),
    ],
)
def test_processes_tokenise_beside_a_gpu_with_cores_to_spare(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, cores: int, processes: int
) -> None:
    monkeypatch.setattr("worker.process.cores.available", lambda: cores)

    assert app.tokenizer_processes(kind) == processes


@pytest.mark.parametrize(
    ("kind", "cores", "in_child_process"),
    [(Kind.CUDA_BF16, 4, True), (Kind.CUDA_FP8, 2, False), (Kind.CPU, 64, False)],
)
def test_the_sink_is_a_child_process_beside_a_gpu_with_cores_to_spare(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, cores: int, *, in_child_process: bool
) -> None:
    monkeypatch.setattr("worker.process.cores.available", lambda: cores)

    assert app.has_sink_process(kind) is in_child_process
