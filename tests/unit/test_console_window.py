"""The console's window, in SQLite and in PostgreSQL: what is kept, found, paged and forgotten."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.database import DatabaseError, SqliteFile, TooLongError
from console.search import Search
from console.window import VerdictWindow
from tests import postgres
from tests.consoles import BIDI, CONTROL, buried, judged
from worker.messages import Action, RecordSource, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from console.database import Database

    Another = Callable[[], Database]

NOW = 1_800_000_000.0


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.PostgresServer]:
    pytest.importorskip("psycopg", reason="the console needs the extra `postgres`")
    if postgres.programs() is None:
        pytest.skip("no PostgreSQL here (apt-get install postgresql)")
    with postgres.serving() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Another]:
    """Open the same database, which is new to this test, once or again."""
    opened: list[Database] = []
    if request.param == "sqlite":

        def another() -> Database:
            opened.append(SqliteFile(tmp_path / "window.sqlite"))
            return opened[-1]

    else:
        server = request.getfixturevalue("server")
        from console.postgres import Postgres  # noqa: PLC0415 an extra

        first = Postgres(server.url)
        with first.writing() as statements:
            statements.execute("DROP SCHEMA hamgate_console CASCADE")
            statements.execute("CREATE SCHEMA hamgate_console")
        first.close()

        def another() -> Database:
            for each in opened:
                each.close()
            opened.append(Postgres(server.url))
            return opened[-1]

    yield another
    for each in opened:
        each.close()


@pytest.fixture
def window(database: Another) -> VerdictWindow:
    window = VerdictWindow(database(), days=100_000)
    window.take(
        [
            judged(0, at=NOW),
            judged(1, at=NOW + 1, action=Action.BLOCK, label="spam", score=0.99, campaign="c-1", campaign_size=4),
            judged(2, at=NOW + 2, action=Action.FLAG, label="spam", score=0.7, flags=("outside", "normalised")),
            judged(3, at=NOW + 3, action=Action.UNSCORED, label=None, score=None, reason="empty-text"),
            judged(4, at=NOW + 4, action=Action.BLOCK, reason="list", rule="list:sender:3f9c", score=0.4, id="m'; --"),
        ],
        [],
        {("sms.verdicts", 0): (2, "id-1")},
    )  # fmt: skip
    return window


def test_models_and_scores_are_told_of_the_newest_verdicts_and_between_two_times(window: VerdictWindow) -> None:
    model = window.search(Search())[0].model

    assert window.models() == [(model, 5, NOW + 4)]
    assert window.models(2) == [(model, 2, NOW + 4)]
    scores = window.scores(NOW + 1, NOW + 4, model, 100)
    assert scores == [(0.99, False), (0.7, True)]  # one has none, and one is later
    assert window.scores(NOW + 1, NOW + 4, model, 1) == scores[:1]
    assert window.scores(NOW, NOW + 9, "another", 100) == []


@pytest.mark.parametrize(
    ("form", "found"),
    [
        ({}, [4, 3, 2, 1, 0]),
        ({"action": "block"}, [4, 1]),
        ({"label": "spam"}, [2, 1]),
        ({"min_score": "0.4", "max_score": "0.7"}, [4, 2]),
        ({"reason": "empty-text"}, [3]),
        ({"reason": "list", "action": "block"}, [4]),
        ({"flag": "outside"}, [2]),
        ({"campaign": "c-1"}, [1]),
        ({"id": "m-0"}, [0]),
        ({"id": "m'; --"}, [4]),
        ({"id": "%"}, []),
        ({"since": "2027-01-15T08:00:01", "until": "2027-01-15T08:00:03"}, [2, 1]),
        ({"since": "2027-01-15T09:00:01+01:00"}, [4, 3, 2, 1]),
    ],
)
def test_a_search_finds_what_fits_the_newest_first(
    window: VerdictWindow, form: dict[str, str], found: list[int]
) -> None:
    asked = Search.read(form)

    assert asked.faults == {}
    assert [4 * row.offset + row.partition for row in window.search(asked)] == found


def test_pages_go_on_by_key_and_miss_or_repeat_nothing_while_more_comes(window: VerdictWindow) -> None:
    first = window.search(Search(), most=2)
    window.take([judged(5, at=NOW + 5)], [], {})
    second = window.search(Search.read({"before": f"{first[1].at}:{first[1].seq}"}), most=2)

    assert [row.id for row in first[:2] + second[:2]] == ["m'; --", "m-3", "m-2", "m-1"]


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ({"since": "yesterday"}, "since"),
        ({"min_score": "nan"}, "min_score"),
        ({"max_score": "2"}, "max_score"),
        ({"action": "drop"}, "action"),
        ({"flag": "' OR 1"}, "flag"),
        ({"before": "1:" + "9" * 30}, "before"),
        ({"before": "-1"}, "before"),
        ({"id": "x" * 300}, "id"),
    ],
)
def test_a_field_that_is_not_understood_is_named(form: dict[str, str], fault: str) -> None:
    asked = Search.read(form)

    assert list(asked.faults) == [fault]


@given(st.dictionaries(st.sampled_from(["since", "until", "min_score", "before", "action", "id", "flag"]), st.text()))
def test_no_form_breaks_a_search(form: dict[str, str]) -> None:
    asked = Search.read(form)

    assert set(asked.faults) <= set(form)
    assert sum(condition.count("?") for condition in asked.conditions) == len(asked.values)


def test_what_is_read_twice_is_kept_once(window: VerdictWindow) -> None:
    window.take([judged(4, at=NOW + 4), judged(5, at=NOW + 5)], [buried(0, b"x", at=NOW)], {})
    window.take([judged(5, at=NOW + 5)], [buried(0, b"x", at=NOW)], {})

    assert [4 * row.offset + row.partition for row in window.search(Search())] == [5, 4, 3, 2, 1, 0]
    assert len(window.letters()) == 1
    assert window._database.ask("SELECT count(*) FROM sources") == [(6,)]
    found = window.verdict(1, 1)
    assert found
    assert found[1]["id"] == "m-5"


def test_a_verdict_is_found_by_its_place_with_all_its_fields(window: VerdictWindow) -> None:
    found = window.verdict(0, 1)

    assert found
    assert found[0].reason == "list"
    assert found[1]["rule"] == "list:sender:3f9c"
    assert window.verdict(9, 9) is None


def test_the_newest_verdict_on_a_message_is_found_by_the_messages_place(window: VerdictWindow) -> None:
    elsewhere = RecordSource("other.events", 0, 4, 0)
    window.take([judged(5, at=NOW + 5, source=RecordSource("sms.events", 0, 3, 0))], [], {})
    window.take([judged(6, source=elsewhere), judged(7, source=RecordSource("sms.events", 0, 2**70, 0))], [], {})

    assert window.place_of_verdict_on(("sms.events", 0, 1)) == (1, 0)
    assert window.place_of_verdict_on(("sms.events", 0, 3)) == (1, 1), "it was judged again"
    assert window.place_of_verdict_on(("sms.events", 0, 4)) == (0, 1), "of this topic, not of another"
    for message in (("none.events", 0, 1), ("sms.events", 0, 99), ("sms.events", 0, 2**70), ("sms.events", -1, 0)):
        assert window.place_of_verdict_on(message) is None
    window.forget("sms.verdicts", is_letters=False)
    assert window.place_of_verdict_on(("sms.events", 0, 1)) is None
    assert window._database.ask("SELECT count(*) FROM sources") == [(0,)]


def test_the_window_keeps_the_newest_rows(database: Another) -> None:
    window = VerdictWindow(database(), rows=10, letters=3, days=1)
    now = time.time()
    window.take([judged(n, at=now) for n in range(30)], [buried(n, b"x", at=now) for n in range(9)], {})
    window._pruned_at = 0
    window.take([judged(30, at=now)], [], {})

    assert [row.id for row in window.search(Search())] == [f"m-{n}" for n in range(30, 20, -1)]
    assert len(window.letters()) == 3
    for table in ("bodies", "sources"):
        assert window._database.ask(f"SELECT count(*) FROM {table}") == [(10,)]  # noqa: S608 names of ours


def test_the_window_keeps_the_newest_days(database: Another) -> None:
    now = time.time()
    old = VerdictWindow(database(), days=1)
    old.take([judged(0, at=now - 100_000)], [], {})
    old._pruned_at = 0
    old.take([judged(1, at=now)], [], {})
    assert [row.id for row in old.search(Search())] == ["m-1"]


def test_positions_are_kept_with_the_rows_and_forgotten_with_a_topic(window: VerdictWindow, database: Another) -> None:
    window = VerdictWindow(database(), days=100_000)
    assert window.positions() == {("sms.verdicts", 0): (2, "id-1")}
    assert len(window.search(Search())) == 5
    window.take([], [], {("sms.verdicts", 0): (9, "id-2")})
    assert window.positions() == {("sms.verdicts", 0): (9, "id-2")}

    window.forget("sms.verdicts", is_letters=False)

    assert window.positions() == {}
    assert window.search(Search()) == []


def test_dead_letters_are_listed_by_reason_without_a_byte_of_them(window: VerdictWindow, tmp_path: Path) -> None:
    letters = [buried(n, b"SECRET TEXT", reason=[*Unreadable][n % 2], at=NOW) for n in range(5)]
    window.take([], letters, {})

    assert window.reasons() == {"too-large": 3, "invalid-utf8": 2}
    assert [row.offset for row in window.letters("too-large")] == [4, 2, 0]
    assert window.letters("too-large")[0].source == "sms.events:1:104"
    window.close()
    assert all(b"SECRET" not in path.read_bytes() for path in tmp_path.iterdir())
    assert all(b"447700900123" not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_search_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window = VerdictWindow(SqliteFile(tmp_path / "window.sqlite"), days=100_000)
    window.take([judged(n, at=NOW) for n in range(30_000)], [], {})
    monkeypatch.setattr("console.database.PATIENCE", -1.0)

    with pytest.raises(TooLongError):
        window.search(Search.read({"min_score": "1"}))


def test_a_question_that_takes_postgres_too_long_is_ended_and_the_next_is_answered(
    server: postgres.PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from console.postgres import Postgres  # noqa: PLC0415 an extra

    monkeypatch.setattr("console.postgres.PATIENCE", 0.1)
    database = Postgres(server.url)

    with pytest.raises(TooLongError):
        database.ask("SELECT pg_sleep(60)")
    assert database.ask("SELECT 1") == [(1,)]
    database.close()


def test_a_file_that_is_no_window_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "window.sqlite"
    path.write_bytes(b"no database, and long enough to tell" * 100)

    with pytest.raises(DatabaseError, match=r"window\.sqlite: .*not a database"):
        VerdictWindow(SqliteFile(path))


def test_a_database_of_another_version_is_refused_by_name(database: Another) -> None:
    database().prepare("", 99)

    with pytest.raises(DatabaseError, match="of another version of hamgate"):
        VerdictWindow(database())


def test_hostile_content_is_kept_and_asked_for_as_it_is(window: VerdictWindow) -> None:
    hostile = (CONTROL, "'; DROP TABLE verdicts; --", "%s %(id)s ? {whole}", BIDI, "x" * 100_000)
    window.take([judged(n, id=each, model=each) for n, each in enumerate(hostile, 50)], [], {})
    window.take([], [buried(3, b"x", key=b"\0")], {})

    for name in hostile[1:3]:
        [found] = window.search(Search.read({"id": name}))
        assert found.id == name
    assert len(window.search(Search())) == 10
    assert window.letters("a\0b") == []
    assert window.verdict(2**63 - 1, 2**63 - 1) is None
    assert window.letters(before=2**62) != []


def test_a_failed_take_keeps_nothing_of_it(window: VerdictWindow) -> None:
    def broken() -> Iterator[Any]:
        yield judged(70)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 the generator's own
        window.take(broken(), [], {("sms.verdicts", 0): (99, "id-1")})

    assert len(window.search(Search())) == 5
    assert window.positions() == {("sms.verdicts", 0): (2, "id-1")}


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    window = VerdictWindow(SqliteFile(tmp_path / "window.sqlite"))
    window.take([judged(1)], [], {})
    assert [path.stat().st_mode & 0o077 for path in tmp_path.iterdir()] == [0] * len([*tmp_path.iterdir()])
    window.close()


def test_a_password_is_in_no_message(server: postgres.PostgresServer) -> None:
    from console.postgres import Postgres  # noqa: PLC0415 an extra

    wrong = server.url.replace(postgres.QUOTED, "an-other-word")
    with pytest.raises(DatabaseError, match=r"^postgresql://127\.0\.0\.1:\d+/postgres: .*password") as refused:
        Postgres(wrong).ask("SELECT 1")
    wrongly = ("a:an-other-word@h:5x/d", "a:an-other-word:b@[h/d", "127.0.0.1:1/d?an-other-word")
    for url in (wrong, *(f"postgresql://{each}" for each in wrongly)):
        said = str(refused.value)
        try:
            Postgres(url).ask("SELECT 1")
        except (ValueError, DatabaseError) as error:
            said += str(error)
        assert "an-other-word" not in said


def test_a_second_console_is_refused_and_one_that_lost_its_server_goes_on(
    server: postgres.PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from console.postgres import Postgres  # noqa: PLC0415 an extra

    monkeypatch.setattr("console.postgres._LOCK_PATIENCE", 0.3)
    one, other = Postgres(server.url), Postgres(server.url)
    window = VerdictWindow(one)
    with pytest.raises(DatabaseError, match="another console writes it"):
        VerdictWindow(other)
    assert window.positions() == window.positions()
    server.stop()
    for ask in (window.positions, lambda: window.take([], [], {})):
        with pytest.raises(DatabaseError):
            ask()
    server.start()
    assert window.reasons() == window.reasons()
    window.take([], [], {})
    one.close()
    other.close()
