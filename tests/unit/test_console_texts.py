"""Texts that are kept: sealed, by role, noted, bound to their place, for some days, erased on demand; off, nothing."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from console.access import UserRole, Visitor
from console.changes import AuditLog
from console.database import SqliteFile
from console.serving import Console
from console.texts import RetainedTexts, TextKeys, shape
from console.window import VerdictWindow
from tests.consoles import BIDI, CONTROL, HTML, fill, judged, parts, users_file
from tests.unit.test_console_pages import assert_harmless, logged_in
from tests.unit.test_console_window import database, server  # noqa: F401 fixtures
from worker.app import StartRefused
from worker.messages import Record
from worker.policy.hashing import HashKeyError
from worker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from console.database import Database
    from console.parts import ConsoleParts
    from tests.unit.test_console_window import Another

TEXT, SENDER, RECIPIENT = "unmistakable words, call 0800 123", "+447700900123", "+447700900456"
OPERATOR, VIEWER = Visitor("ola", UserRole.OPERATOR, "s"), Visitor("vera", UserRole.VIEWER, "s")
NOW = time.time()


def event(offset: int, *, at: float | None = None, partition: int = 0, **fields: Any) -> Record:
    value = json.dumps({"text": TEXT, "sender": SENDER, "recipient": RECIPIENT} | fields).encode()
    return Record("sms.events", partition, offset, NOW if at is None else at, b"key", value, ())


def place(offset: int) -> tuple[str, int, int]:
    return "sms.events", 0, offset


def key_file(folder: Path, *keys: str) -> Path:
    path = folder / "text-keys"
    path.write_text("".join(f"{key}\n" for key in keys or (secrets.token_hex(32),)))
    path.chmod(0o600)
    return path


def kept_in(there: Database, folder: Path, **more: Any) -> RetainedTexts:
    path = folder / "text-keys"
    keys = TextKeys(path if path.exists() else key_file(folder))
    VerdictWindow(there)
    given = {"topic": "sms.events", "max_bytes": 65536, "days": 7.0} | more
    return RetainedTexts(there, AuditLog(folder / "audit.jsonl"), keys, **given)


@pytest.fixture
def texts(database: Another, tmp_path: Path) -> RetainedTexts:  # noqa: F811
    made = kept_in(database(), tmp_path)
    made.take([event(n) for n in range(3)], {("sms.events", 0): (3, "id-1")})
    return made


def audited(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


def test_an_analyst_sees_the_text_a_viewer_its_shape_and_each_look_is_noted(
    texts: RetainedTexts, tmp_path: Path
) -> None:
    seen = texts.one(OPERATOR, place(1), "verdict")
    masked = texts.one(VIEWER, place(1), "verdict")

    assert seen
    assert (seen.text, seen.sender, seen.recipient, seen.is_masked) == (TEXT, SENDER, RECIPIENT, False)
    assert masked
    assert masked.text == "xxxxxxxxxxxx xxxxx, xxxx 0000 000"
    assert (masked.sender, masked.recipient, masked.length, masked.is_masked) == (None, None, len(TEXT), True)
    assert texts.one(OPERATOR, place(9), "verdict") is None
    noted = audited(tmp_path)
    assert [(each["user"], each["what"], each["page"], each["masked"], each["places"]) for each in noted] == [
        ("ola", "text shown", "verdict", False, ["sms.events:0:1"]),
        ("vera", "text shown", "verdict", True, ["sms.events:0:1"]),
    ]
    assert "unmistakable" not in json.dumps(noted)


def test_thousands_are_looked_at_by_a_few_questions_in_the_order_they_were_named(
    texts: RetainedTexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts.take([event(n, partition=n % 2, text=f"number {n}") for n in range(3, 1203)], {})
    places = [("sms.events", n % 2, n) for n in reversed(range(3, 1300))]
    asked: list[str] = []
    ask = texts._database.ask
    monkeypatch.setattr(texts._database, "ask", lambda *given: (asked.append(given[0]), ask(*given))[1])

    found = texts.look(OPERATOR, [*places, *places, ("sms.events", 0, 2**70), ("none", 0, 3)], "a test")

    assert [shown.text for shown in found.values()] == [f"number {n}" for n in reversed(range(3, 1203))]
    assert list(found) == [("sms.events", n % 2, n) for n in reversed(range(3, 1203))]
    assert len(asked) <= 6


def test_what_cannot_be_noted_is_not_shown_nor_erased(texts: RetainedTexts, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(texts._changes, "write", full)

    with pytest.raises(OSError, match="No space"):
        texts.one(OPERATOR, place(1), "verdict")
    with pytest.raises(OSError, match="No space"):
        texts.erase(OPERATOR, place(1))
    assert texts.state()["count"] == 3


def test_nothing_of_a_message_lies_in_the_file_as_it_is(tmp_path: Path) -> None:
    made = kept_in(SqliteFile(tmp_path / "window.sqlite"), tmp_path)
    made.take([event(1)], {})
    made.erase(OPERATOR, place(1))
    made.take([event(2)], {})

    kept = b"".join(path.read_bytes() for path in tmp_path.glob("window.sqlite*"))
    assert not [each for each in (TEXT, SENDER, RECIPIENT, SENDER[1:], "unmistakable") if each.encode() in kept]


def test_equal_texts_are_sealed_to_different_bytes(texts: RetainedTexts) -> None:
    sealed = [row[0] for row in texts._database.ask("SELECT sealed FROM texts")]

    assert len(set(sealed)) == 3
    assert len({each[16:28] for each in sealed}) == 3


@pytest.mark.parametrize(
    "change",
    ['"offset" = 7', "partition = 7", "topic = 'other'", "at = at + 1", "sender = 'x'",
     'sealed = (SELECT sealed FROM texts WHERE "offset" = 2)'],
)  # fmt: skip
def test_a_row_that_was_moved_or_changed_is_not_opened(texts: RetainedTexts, change: str) -> None:
    with texts._database.writing() as statements:
        statements.execute(f'UPDATE texts SET {change} WHERE "offset" = 1')  # noqa: S608 the test's own
    [[topic, partition, offset]] = texts._database.ask(
        'SELECT topic, partition, "offset" FROM texts WHERE "offset" NOT IN (0, 2)'
    )

    seen = texts.one(OPERATOR, (topic, partition, offset), "verdict")

    assert seen
    assert seen.text == ""
    assert seen.fault
    assert "does not fit its place" in seen.fault


def test_after_a_change_of_key_old_texts_are_read_while_its_line_stays_and_named_when_it_is_gone(
    database: Another,  # noqa: F811
    tmp_path: Path,
) -> None:
    old, new = secrets.token_hex(32), secrets.token_hex(32)
    key_file(tmp_path, old)
    first = kept_in(database(), tmp_path)
    first.take([event(1)], {})
    key_file(tmp_path, new, old)
    both = kept_in(database(), tmp_path)
    both.take([event(2)], {})
    assert [both.one(OPERATOR, place(n), "verdict").text for n in (1, 2)] == [TEXT, TEXT]  # type: ignore[union-attr]
    assert both.keys.in_force != first.keys.in_force
    key_file(tmp_path, new)
    after = kept_in(database(), tmp_path)

    seen = after.one(OPERATOR, place(1), "verdict")

    assert seen
    assert seen.fault == f"It was kept under the key {first.keys.in_force}, which HAMGATE_CONSOLE_TEXT_KEY_FILE has no longer."  # fmt: skip # noqa: E501
    assert after.one(OPERATOR, place(2), "verdict").text == TEXT  # type: ignore[union-attr]
    assert {each["name"]: each["is_here"] for each in after.state()["keys"]} == {
        first.keys.in_force: False, after.keys.in_force: True,
    }  # fmt: skip
    assert after.erase_sender_of(OPERATOR, place(1)) == 1
    key_file(tmp_path, new, old)
    assert kept_in(database(), tmp_path).erase_sender(OPERATOR, SENDER) == 1


@pytest.mark.parametrize("written", [SENDER, "00447700900123", "+44 7700 900123", "447700900123"])
def test_all_of_a_sender_is_erased_however_he_is_written_and_nobody_elses(
    texts: RetainedTexts, tmp_path: Path, written: str
) -> None:
    texts.take([event(5, sender="MyBank"), event(6, sender=None)], {})

    assert texts.erase_sender(OPERATOR, written) == 3

    assert texts.one(OPERATOR, place(1), "verdict") is None
    assert texts.one(OPERATOR, place(5), "verdict")
    assert "7700900123" not in (tmp_path / "audit.jsonl").read_text()
    assert texts.erase_sender_of(OPERATOR, place(6)) == 1
    assert texts.erase_sender_of(OPERATOR, place(6)) == 0
    assert texts.erase_sender_of(OPERATOR, place(5)) == 1


def test_texts_are_bounded_by_days_and_by_rows(database: Another, tmp_path: Path) -> None:  # noqa: F811
    texts = kept_in(database(), tmp_path, days=1.0, rows=4)
    now = time.time()
    texts.take([event(0, at=now - 86_300), event(1, at=now + 999_999)], {})
    assert texts.state()["oldest"] < now
    assert texts.one(OPERATOR, place(1), "verdict").at < time.time() + 1  # type: ignore[union-attr]
    texts.days = 86_200 / 86_400
    assert texts.one(OPERATOR, place(0), "verdict") is None  # not shown, also before it is erased
    texts.take([event(n) for n in range(10, 20)], {})
    texts._pruned_at = 0.0
    texts.prune()
    assert texts.state()["count"] == 4
    assert texts.one(OPERATOR, place(19), "verdict")


def test_a_share_is_chosen_by_place_and_reading_again_keeps_once(database: Another, tmp_path: Path) -> None:  # noqa: F811
    texts = kept_in(database(), tmp_path, share=0.2)
    for _ in range(2):
        texts.take([event(n) for n in range(1000)], {})

    assert 140 < texts.state()["count"] < 260


def test_what_is_no_readable_event_is_not_kept(texts: RetainedTexts) -> None:
    texts.take(
        [Record("sms.events", 0, n, NOW, b"k", value, ()) for n, value in enumerate((b"\xff", b"{}", None, b"[1"), 50)],
        {},
    )

    assert texts.state()["count"] == 3


@pytest.mark.parametrize("text", ["", HTML, BIDI, CONTROL, "\U0001f4e6 żółć ١٢٣", "x" * 20_000])
def test_a_shape_says_nothing_but_form(text: str) -> None:
    made = shape(text)

    assert (
        not set(made)
        - set("x0? \t\n…\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\u2028\u2029\xa0")
        - set("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    )
    assert len(made) <= 402


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [("", 0o600, "wants a key"), ("short-but-16-chars", 0o600, "at least 32"), ("k" * 32, 0o644, "chmod 640")],
)
def test_a_key_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, content: str, mode: int, said: str) -> None:
    path = tmp_path / "text-keys"
    path.write_text(content)
    path.chmod(mode)

    with pytest.raises(HashKeyError, match=said) as refused:
        TextKeys(path)
    assert str(path) in str(refused.value)
    given = {"console_folder": tmp_path / "console", "console_port": 0}
    with pytest.raises(StartRefused, match=said):
        Console(Settings(**given, console_text_key_file=path))


def test_without_the_setting_no_text_is_read_and_those_of_before_are_erased(tmp_path: Path) -> None:
    given: dict[str, Any] = {"console_folder": tmp_path / "console", "console_port": 0}
    on = Console(Settings(**given, console_text_key_file=key_file(tmp_path)))
    on._socket.close()
    assert on._reading_texts
    texts = on._reading_texts._texts
    texts.take([event(1)], {})
    assert texts.state()["count"] == 1
    on._window.close()

    off = Console(Settings(**given))
    off._socket.close()

    assert off._reading_texts is None
    assert texts.state()["count"] == 0
    off._window.close()
    texts._database.close()


@pytest.fixture
def keeping(tmp_path: Path) -> ConsoleParts:
    """A console with users, and hostile texts beside one of everyday."""
    made = parts(tmp_path, users=users_file(tmp_path))
    made.texts = kept_in(made.window._database, tmp_path)
    made.is_ending = lambda: True
    fill(made, [judged(n) for n in range(4)], [])
    hostile = [event(n, text=f"{each} {TEXT}", sender=each) for n, each in enumerate((HTML, BIDI, CONTROL), 1)]
    made.texts.take([event(0), *hostile], {})
    return made


def test_history_and_verdict_show_texts_to_an_analyst_harmless_and_noted(keeping: ConsoleParts, tmp_path: Path) -> None:
    client = logged_in(keeping, UserRole.ANALYST)

    assert "unmistakable" not in client.get("/history").text
    for path in ("/history?texts=1", "/history/0/0", "/history/1/0", "/history/2/0", "/history/3/0"):
        page = client.get(path)
        assert page.status_code == 200
        assert "unmistakable words" in page.text
        assert_harmless(page.text)
    assert "Erase" not in page.text
    assert [each["page"] for each in audited(tmp_path) if each["what"] == "text shown"] == ["history", *["verdict"] * 4]
    assert client.get("/texts").status_code == 403
    assert client.post("/texts", data={"what": "message", "place": "sms.events:0:1"}).status_code == 403


def test_a_viewer_sees_texts_masked(keeping: ConsoleParts) -> None:
    client = logged_in(keeping, UserRole.VIEWER)

    for path in ("/history?texts=1", "/history/0/0", "/history/1/0"):
        page = client.get(path).text
        assert "unmistakable" not in page
        assert "447700900123" not in page
        assert "masked" in page
        assert_harmless(page)


def test_an_operator_erases_a_message_a_sender_and_whom_he_names(keeping: ConsoleParts) -> None:
    client = logged_in(keeping, UserRole.OPERATOR)
    token = client.headers["X-CSRF-Token"]
    assert keeping.texts

    def erase(**form: str) -> str:
        answer = client.post("/texts", data={"token": token} | form)
        return f"{answer.status_code} {keeping.texts.state()['count']}"  # type: ignore[union-attr]

    assert "Erase all texts of this sender" in client.get("/history/1/0").text
    assert erase(what="message", place="sms.events:0:1") == "200 3"
    assert erase(what="sender-of", place="sms.events:0:2") == "200 2"
    assert erase(what="sender", sender=SENDER) == "200 1"
    assert erase(what="sender", sender="") == "400 1"
    assert erase(what="all") == "400 1"
    assert erase(what="message", place="sms.events:-1:x") == "400 1"
    assert erase(what="message", place="sms.events:0:3", token="0" * 64) == "403 1"
    assert "No text of this message is kept" in client.get("/history/1/0").text
    assert client.get("/texts").status_code == 200


def test_a_console_that_keeps_none_says_so_and_has_no_page_for_them(tmp_path: Path) -> None:
    made = parts(tmp_path, users=users_file(tmp_path))
    fill(made, [judged(0)], [])
    client = logged_in(made, UserRole.OPERATOR)

    assert client.get("/texts").status_code == 404
    assert "show texts" not in client.get("/history?texts=1").text
    assert "The console keeps no text" in client.get("/history/0/0").text
