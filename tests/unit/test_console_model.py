"""The page Model: broken and hostile bundles, figures, promotion with its guards, and who may do it."""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from console import evaluation
from console.access import COOKIE, UserRole
from console.evaluation import ResultFiles
from console.shadowing import ShadowReports
from console.shelf import MOST, BundleShelf
from tests import bundles
from tests.consoles import HTML, fill, judged, parts, users_file
from tests.unit.test_console_feedback import full
from tests.unit.test_console_pages import HOSTILE, Seen, audit, client_of, logged_in, token_of
from worker.broker import KafkaLink
from worker.commands import promoting
from worker.messages import Record
from worker.model.bundle import Bundle, BundleError
from worker.rollout import link as releases
from worker.rollout import paired
from worker.rollout.budgets import ScoreSpread
from worker.rollout.paired import PairedBundles, PairedFigures
from worker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi.testclient import TestClient

    from console.parts import ConsoleParts

TURNS = ("/api/model/use", "/api/model/back")
SCORES = np.array([0.001] * 80 + [0.3] * 5 + [0.97] * 15)
IS_SPAM = np.array([False] * 84 + [True] * 16)


PARTS = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "tokenizer/tokenizer.json")
PAPER = json.loads((bundles.NANO / "bundle.json").read_text()) | {"base": {"id": "somewhere"}, "name": "next"}


class Disk:
    """A link to nano, and a folder of candidates."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.link, self.candidates = folder, folder / "current", folder / "candidates"
        self.candidates.mkdir()
        self.link.symlink_to(bundles.NANO)
        self.settings = Settings(bundle=self.link, console_candidates=self.candidates, threads=1)

    def add(self, name: str, **fields: Any) -> Bundle:
        """A bundle that holds what a sound one must, and no model; a link or a test that wants one takes nano."""
        folder = self.candidates / name
        for part in PARTS:
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            (folder / part).write_text("{}")
        (folder / "bundle.json").write_text(json.dumps(PAPER | {"files": dict.fromkeys(PARTS, "")}))
        return Bundle.load(bundles.seal(folder, **fields))


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.fixture
def shelved(disk: Disk) -> ConsoleParts:
    made = parts(disk.folder, settings=disk.settings)
    made.judge.load = lambda: None  # type: ignore[method-assign]
    return made


def operator(made: ConsoleParts) -> TestClient:
    client = client_of(made)
    client.headers["X-CSRF-Token"] = token_of(client.get("/").text)
    return client


def assert_no_stranger_acts(page: str) -> None:
    """As on other pages, but that plots are drawn by the server: by shapes without a script or a style."""
    drawn = {"svg", "rect", "line", "polyline", "circle", "text"}
    for tag, attributes in Seen(page).tags:
        assert tag not in ("img", "iframe", "object", "embed", "style", "a") or tag == "a"
        assert tag != "svg" or attributes.get("class", "").startswith("plot")  # type: ignore[union-attr]
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "xlink:href")]
        assert tag not in drawn or "href" not in attributes
        assert tag != "script" or (attributes.get("src") or "").startswith("/static/")
    assert not set(page) & set("\u202e\u202c\x1b\x00\x07\u2028")
    assert "1337" not in page


def nano() -> Bundle:
    return Bundle.load(bundles.NANO)


def test_the_page_says_what_is_in_force_and_by_what_the_verdicts_are(shelved: ConsoleParts) -> None:
    fill(shelved, [judged(n, model=nano().model, score=0.01, at=time.time() - n) for n in range(100)], [])

    page = operator(shelved).get("/model").text

    assert nano().digest in page
    assert "The newest verdicts are by" in page
    assert "judge with another bundle" not in page
    assert "(100, the last" in page
    assert "ar, de, en, es, fr, hi, id, pt, sw, tr" in page
    assert "traffic, mendeley" in page
    assert_no_stranger_acts(page)


def test_where_workers_judge_with_another_bundle_it_says_what_to_do(shelved: ConsoleParts) -> None:
    fill(shelved, [judged(1, model="other@0123456789ab")], [])

    assert "another bundle than this console" in operator(shelved).get("/model").text


def test_without_a_verdict_a_folder_or_a_link_the_page_says_so(tmp_path: Path) -> None:
    page = operator(parts(tmp_path)).get("/model").text

    assert "No verdict has been read yet" in page
    assert "HAMGATE_CONSOLE_CANDIDATES" in page
    assert "is a folder, not a link" in page
    assert "data-turn" not in page


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b'{"format": 9}', b"\xff", HTML.encode()])
def test_a_broken_bundle_is_named_and_passed_over_and_the_others_are_shown(
    disk: Disk, shelved: ConsoleParts, content: bytes
) -> None:
    good = disk.add("good")
    (disk.candidates / "broken").mkdir()
    (disk.candidates / "broken" / "bundle.json").write_bytes(content)
    (disk.candidates / "empty").mkdir()
    (disk.candidates / "a-file").write_text("x")
    (disk.candidates / ".draft").mkdir()
    (disk.candidates / "loop").symlink_to("loop")

    page = operator(shelved).get("/model").text

    assert page.count("It is passed over") == 2
    assert "broken" in page
    assert good.model in page
    assert ".draft" not in page
    assert_no_stranger_acts(page)


def test_a_tampered_file_is_noticed_though_the_bundle_was_sound_before(disk: Disk, shelved: ConsoleParts) -> None:
    disk.add("good")
    client = operator(shelved)
    assert 'data-turn="use"' in client.get("/model").text

    (disk.candidates / "good" / "tokenizer" / "tokenizer.json").write_text('{"a": 1}')

    page = client.get("/model").text
    assert "SHA-256 is" in page
    assert 'data-turn="use"' not in page


def test_a_bundle_in_force_that_cannot_be_read_is_a_page_that_says_so(disk: Disk, shelved: ConsoleParts) -> None:
    disk.add("good")
    disk.link.unlink()
    disk.link.symlink_to("nowhere")

    page = operator(shelved).get("/model").text

    assert "cannot be read here: no such folder" in page
    assert "data-turn" not in page


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_card_and_hostile_fields_are_shown_harmless(disk: Disk, shelved: ConsoleParts, text: str) -> None:
    text = text[:4_000]
    name = text[:90].replace("/", "").replace("\x00", "")
    bundle = disk.add(
        name,
        labels=["ham", text],
        canaries=[],
        recipe={"name": text},
        created_at=text,
        data_digest=text,
        coverage={"scripts": [text], "tokens_a_character": 1, "languages": [text] * 99, "kinds": [text]},
        by_language={text: {"threshold": 0.5, "flag_from": 0.5, "block_from": 0.5}},
        quality={"test-f1": text, "scores": {"bounds": text}, "drift": text, "held-out": text},
    )
    (disk.candidates / name / "README.md").write_text(text + "\n" + text, errors="replace")
    paired.beside(disk.candidates / name).write_bytes(
        paired.written(PairedBundles(text, text, text, 1, text, (PairedFigures(text, text, 0, 0, 0, 1, 1, 1),)))
    )
    client = operator(shelved)
    assert_no_stranger_acts(client.get("/model").text)

    releases.use(disk.link, disk.candidates / name)
    page = client.get("/model")
    assert page.status_code == 200
    assert bundle.digest in page.text
    assert_no_stranger_acts(page.text)
    assert len(page.text) < 200_000


def test_candidates_are_bounded(disk: Disk, shelved: ConsoleParts) -> None:
    for n in range(MOST + 5):
        (disk.candidates / f"c{n}").mkdir()

    page = operator(shelved).get("/model").text

    assert page.count("It is passed over") == MOST
    assert f"{MOST + 5} folders" in page


def test_a_comparison_is_shown_where_it_is_of_these_two_alone(disk: Disk, shelved: ConsoleParts) -> None:
    candidate = disk.add("good")
    place = paired.beside(disk.candidates / "good")
    figures = (PairedFigures("attack/dotted", "worse", -0.05, -0.08, -0.02, 2, 9, 0.04),)
    found = PairedBundles(candidate.model, nano().model, "0" * 64, 500, "2026-01-31T08:00:00Z", figures)
    client = operator(shelved)
    assert "Not compared on the same rows yet" in client.get("/model").text

    place.write_bytes(paired.written(found))
    page = client.get("/model").text
    assert "On the same 500 rows" in page
    assert "-0.0800 to -0.0200" in page
    place.write_bytes(paired.written(found).replace(nano().model.encode(), b"other@0123456789ab"))
    assert "not of these two" in client.get("/model").text
    place.write_bytes(b"{")
    assert "cannot be read: not as" in client.get("/model").text


# --- putting one in force -------------------------------------------------------------------------------------------


def asked(to: Bundle, now: Bundle) -> dict[str, str]:
    return {"digest": to.digest, "in_force": now.digest}


def test_a_candidate_is_put_in_force_and_one_goes_back_both_noted_with_both_digests(
    disk: Disk, shelved: ConsoleParts
) -> None:
    candidate, before = Bundle.load(bundles.reissued(disk.candidates / "good")), nano()
    client = operator(shelved)

    assert client.post("/api/model/use", json=asked(candidate, before)).json() == {"model": candidate.model}
    assert disk.link.resolve() == disk.candidates / "good"
    page = client.get("/model").text
    assert f'data-turn="back" data-digest="{before.digest}" data-in-force="{candidate.digest}"' in page
    assert client.post("/api/model/back", json=asked(before, candidate)).json() == {"model": before.model}
    assert disk.link.resolve() == bundles.NANO
    assert client.post("/api/model/back", json=asked(before, before)).status_code == 409

    noted = [(each["what"], each["digest"], each["before"]) for each in audit(disk.folder)]
    assert noted == [
        ("model promoted", candidate.digest, before.digest),
        ("model gone back", before.digest, candidate.digest),
    ]


def test_one_goes_further_back_where_the_one_before_is_back_in_force(disk: Disk, shelved: ConsoleParts) -> None:
    first, second = nano(), Bundle.load(bundles.reissued(disk.candidates / "second"))
    third = disk.add("third")
    for folder in ("second", "third"):
        releases.use(disk.link, disk.candidates / folder)
    client = operator(shelved)
    assert "One further back" not in client.get("/model").text
    assert client.post("/api/model/back", json=asked(second, third)).json() == {"model": second.model}

    page = client.get("/model").text
    further = f'data-turn="back" data-again="true" data-digest="{first.digest}" data-in-force="{second.digest}"'
    assert "It is back already" in page
    assert further in page
    assert client.post("/api/model/back", json=asked(first, second)).status_code == 409, "not without saying so"
    assert client.post("/api/model/back", json=asked(first, second) | {"again": True}).json() == {"model": first.model}

    assert disk.link.resolve() == bundles.NANO
    assert "One further back" not in client.get("/model").text
    assert [each["what"] for each in audit(disk.folder)] == ["model gone back", "model gone further back"]


def test_one_goes_further_back_over_a_bundle_that_is_gone(disk: Disk, shelved: ConsoleParts) -> None:
    gone, new = Bundle.load(bundles.reissued(disk.candidates / "gone")), disk.add("new")
    for folder in ("gone", "new"):
        releases.use(disk.link, disk.candidates / folder)
    shutil.rmtree(disk.candidates / "gone")
    client = operator(shelved)

    page = client.get("/model").text
    assert "is no longer there" in page
    assert gone.digest not in page
    assert f'data-again="true" data-digest="{nano().digest}" data-in-force="{new.digest}"' in page
    assert client.post("/api/model/back", json=asked(nano(), new) | {"again": True}).json() == {"model": nano().model}


def test_a_model_that_does_not_know_its_canaries_is_refused_as_by_the_command(
    disk: Disk, shelved: ConsoleParts
) -> None:
    bundles.flipped(disk.candidates / "flipped")
    bad = Bundle.load(disk.candidates / "flipped")

    answer = operator(shelved).post("/api/model/use", json=asked(bad, nano()))

    assert answer.status_code == 409
    assert "canary" in answer.json()["error"]
    assert disk.link.resolve() == bundles.NANO
    assert [each["what"] for each in audit(disk.folder)] == ["model promoted: refused"]


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no model loaded: these tests are about what comes before and after."""

    def proven(settings: Settings, folder: Path) -> Any:
        class Loaded:
            class classifier:  # noqa: N801 as the model has it
                bundle = Bundle.load(folder)

        return promoting.ProvenTurn(settings.bundle, releases.current(settings.bundle), folder, Loaded())  # type: ignore[arg-type]

    monkeypatch.setattr(promoting, "proven", proven)


@pytest.mark.usefixtures("unverified")
def test_what_was_confirmed_must_still_be_so(disk: Disk, shelved: ConsoleParts) -> None:
    candidate, other = disk.add("good"), disk.add("other", created_at="2026-03-03T00:00:00Z")
    client = operator(shelved)

    assert client.post("/api/model/use", json=asked(candidate, other)).status_code == 409
    gone = {"digest": "0" * 64, "in_force": nano().digest}
    assert client.post("/api/model/use", json=gone).status_code == 404
    assert disk.link.resolve() == bundles.NANO
    assert not (disk.folder / "audit.jsonl").read_text()


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize(
    "body", [{}, {"digest": "../nano", "in_force": "x"}, {"digest": "A" * 64, "in_force": "0" * 64}, {"folder": "/"}]
)
def test_only_digests_name_a_bundle(disk: Disk, shelved: ConsoleParts, body: dict[str, str]) -> None:
    assert operator(shelved).post("/api/model/use", json=body).status_code == 422
    assert disk.link.resolve() == bundles.NANO


@pytest.mark.usefixtures("unverified")
def test_only_an_operator_with_the_pages_token_changes_the_model(disk: Disk) -> None:
    guarded = parts(disk.folder, users=users_file(disk.folder), settings=disk.settings)
    candidate = disk.add("good")
    viewer, analyst = logged_in(guarded, UserRole.VIEWER), logged_in(guarded, UserRole.ANALYST)
    client = logged_in(guarded, UserRole.OPERATOR)
    body = asked(candidate, nano())
    before = (disk.folder / "audit.jsonl").read_text()

    for each in (viewer, analyst):
        assert each.get("/model").status_code == 200
        assert "data-turn" not in each.get("/model").text
        assert [each.post(path, json=body).status_code for path in TURNS] == [403, 403]
    for headers in ({"X-CSRF-Token": ""}, {"X-CSRF-Token": "0" * 64}, {"Sec-Fetch-Site": "cross-site"}):
        assert [client.post(path, json=body, headers=headers).status_code for path in TURNS] == [403, 403]
    del client.cookies[COOKIE]
    assert [client.post(path, json=body).status_code for path in TURNS] == [401, 401]
    assert (disk.folder / "audit.jsonl").read_text() == before
    assert disk.link.resolve() == bundles.NANO


@pytest.mark.usefixtures("unverified")
def test_a_promotion_that_cannot_be_noted_or_turned_is_not_made_and_says_why(
    disk: Disk, shelved: ConsoleParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = disk.add("good")
    client = operator(shelved)
    with monkeypatch.context() as patched:
        patched.setattr(shelved.changes, "write", full)
        assert client.post("/api/model/use", json=asked(candidate, nano())).status_code == 503
    assert disk.link.resolve() == bundles.NANO

    disk.link.unlink()
    bundles.copy(disk.link)
    answer = client.post("/api/model/use", json=asked(candidate, nano()))
    assert answer.status_code == 409
    assert "is a folder, not a link" in answer.json()["error"]


def test_what_a_proof_says_is_shown_harmless(
    disk: Disk, shelved: ConsoleParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = disk.add("good")

    def refuse(*_: object) -> None:
        raise BundleError(disk.folder, "no \u202e" + "x" * 9000)

    monkeypatch.setattr(promoting, "proven", refuse)
    answer = operator(shelved).post("/api/model/use", json=asked(candidate, nano()))

    assert answer.status_code == 409
    assert "\u202e" not in answer.json()["error"]
    assert len(answer.text) < 1000


def test_two_do_not_change_the_model_at_once(disk: Disk, shelved: ConsoleParts) -> None:
    candidate = disk.add("good")
    assert shelved.promotion._turn.acquire(blocking=False)

    assert operator(shelved).post("/api/model/use", json=asked(candidate, nano())).status_code == 409


# --- figures --------------------------------------------------------------------------------------------------------


def test_a_histogram_by_label_is_drawn_whole_and_within_its_box() -> None:
    plot = evaluation.histogram(ScoreSpread.of(SCORES, IS_SPAM), SCORES)

    assert plot.by_label
    assert plot.scored == 100
    assert {bar.kind for bar in plot.bars} == {"ham", "spam", "now"}
    for bar in plot.bars:
        assert bar.height >= 1
        assert 0 <= bar.y <= bar.y + bar.height <= 166.1
        assert 40 <= bar.x <= bar.x + bar.width <= 640
    assert plot.rows[0] == ("0 to 0.01", "80.00%", "0.00%", "80.00%")


def test_without_labels_or_traffic_it_is_drawn_of_what_there_is() -> None:
    plot = evaluation.histogram(ScoreSpread.of(SCORES), evaluation.NO_SCORES)

    assert {bar.kind for bar in plot.bars} == {"all"}
    assert (plot.by_label, plot.scored, plot.rows[0]) == (False, 0, ("0 to 0.01", "80.00%", "–"))
    assert evaluation.reliability(ScoreSpread.of(SCORES)) == []


def test_reliability_is_the_share_of_spam_in_each_bin() -> None:
    points = {round(point.score, 3): point for point in evaluation.reliability(ScoreSpread.of(SCORES, IS_SPAM))}

    assert points[0.005].spam == 0
    assert points[0.35].spam == pytest.approx(0.2)
    assert points[0.965].spam == 1


def test_the_course_of_ordinary_traffic_is_near_what_is_expected_and_that_of_strange_one_is_not(
    shelved: ConsoleParts,
) -> None:
    bundle, now = nano(), time.time()
    dice = np.random.default_rng(0)
    usual = [judged(n, model=bundle.model, at=now - n, score=float(dice.choice([0.01, 0.99]))) for n in range(1, 3000)]
    fill(shelved, [*usual, judged(0, model="other@0", at=now - 1, score=0.66)], [])

    course = evaluation.course(shelved.window, bundle, now)

    assert course
    assert course.scored == 2999
    assert course.ratios
    assert course.ratios["outside"] < 1
    assert course.ratios["score"] < 1
    odd = [judged(n + 5000, model=bundle.model, at=now - n, score=0.66, flags=("outside",)) for n in range(1, 3000)]
    fill(shelved, odd, [])
    strange = evaluation.course(shelved.window, bundle, now)
    assert strange
    assert strange.ratios
    assert min(strange.ratios.values()) > 1.4
    points = [each for _, lines in strange.lines for line in lines for each in line.split()]
    assert all(0 <= float(value) <= 640 for each in points for value in each.split(","))


def test_a_bundle_that_has_judged_nothing_has_no_course(shelved: ConsoleParts) -> None:
    assert evaluation.course(shelved.window, nano()) is None
    fill(shelved, [judged(1, model="other@0")], [])
    assert evaluation.course(shelved.window, nano()) is None


@pytest.mark.parametrize(
    ("mine", "other", "sense"),
    [
        ({"test-f1": 0.9}, {"test-f1": 0.8}, "better"),
        ({"test-ece": 0.9}, {"test-ece": 0.8}, "worse"),
        ({"test-f1": 0.9}, {"test-f1": 0.9}, ""),
        ({"test-f1": "x"}, {"test-f1": 0.9}, ""),
        ({"test-f1": True}, {"test-f1": 1e999}, None),
    ],
)
def test_figures_stand_beside_each_other(
    disk: Disk, mine: dict[str, Any], other: dict[str, Any], sense: str | None
) -> None:
    one, two = disk.add("one", quality=mine), nano()
    two.quality.clear()
    two.quality.update(other)

    found = evaluation.beside(one, two)

    assert [each[3] for each in found] == ([] if sense is None else [sense])


@pytest.mark.parametrize("content", ["", "{}", "[1]", "[" * 90_000, '[{"name": 5}]', '[{"name": "x", "value": "y"}]'])
def test_a_results_file_that_is_none_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "traffic-nano-x.json").write_text(content)

    assert [each.rows for each in ResultFiles(tmp_path).recalls(nano())] == ["test rows of its split"]


def test_results_of_another_bundle_are_not_shown(tmp_path: Path) -> None:
    row = {"name": "judge/nano/traffic/all/recall-at-1-percent", "value": 0.5, "extra": {"bundle": "nano@0"}}
    (tmp_path / "traffic-nano-x.json").write_text(json.dumps([row]))

    assert len(ResultFiles(tmp_path).recalls(nano())) == 1
    row["extra"] = {"bundle": nano().model}  # said with one figure, it holds for all of the file
    (tmp_path / "traffic-nano-y.json").write_text(json.dumps([row]))
    assert ResultFiles(tmp_path).recalls(nano())[1].values == ((0.5, ""), None)


def test_reports_of_a_shadow_are_counted_shown_harmless_and_bounded(shelved: ConsoleParts) -> None:
    shadow = ShadowReports(KafkaLink("127.0.0.1:1", patience=0.1), "sms.shadow")
    shelved.shadow = shadow

    def take(said: dict[str, Any]) -> None:
        shadow.take([Record("sms.shadow", 0, 0, 0.0, None, json.dumps(said).encode(), ())], 1.0)

    opinion = {"model": HTML, "label": HTML, "score": 0.9}
    for n in range(30):
        take({"kind": "summary", "since": "x", "until": "x", "primary": f"{HTML}{n}", "shadow": "s", "judged": 10,
              "skipped": 1, "labels": {f"{HTML}{m}": {"ham": 1} for m in range(200)}})  # fmt: skip
    take({"kind": "summary", "since": "x", "until": "x", "primary": "p", "shadow": "s", "judged": -5, "skipped": 1,
          "labels": {"spam": {"ham": 9}}})  # fmt: skip
    take({"kind": "disagreement", "id": HTML, "at": "x", "primary": opinion, "shadow": opinion | {"label": None},
          "source": {"topic": HTML, "partition": 0, "offset": 1, "timestamp": 1}})  # fmt: skip
    shadow.take([Record("sms.shadow", 0, 0, 0.0, None, b"not json", ())], 1.0)

    found, _ = shadow.known()
    assert len(found) <= 8
    page = operator(shelved).get("/model")
    assert page.status_code == 200
    assert_no_stranger_acts(page.text)
    assert len(page.text) < 200_000


def test_a_card_that_leads_out_of_the_bundle_is_not_shown(disk: Disk, shelved: ConsoleParts) -> None:
    disk.add("good")
    (disk.folder / "secret").write_text("a secret of this host")
    (disk.candidates / "good" / "README.md").symlink_to(disk.folder / "secret")
    disk.add("pipe")
    os.mkfifo(disk.candidates / "pipe" / "README.md")
    os.mkfifo(paired.beside(disk.candidates / "pipe"))

    page = operator(shelved).get("/model").text

    assert "a secret of this host" not in page
    assert "Its card" not in page.partition("Candidates</h2>")[2]


def test_a_card_is_read_to_its_bound(disk: Disk, shelved: ConsoleParts) -> None:
    disk.add("good")
    (disk.candidates / "good" / "README.md").write_text("x" * (1 << 22))

    assert len(operator(shelved).get("/model").text) < 200_000
    assert len(BundleShelf(disk.settings).candidates()[0][0].card) == 1 << 16
