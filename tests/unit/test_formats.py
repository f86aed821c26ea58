"""docs/formats against what is really sent: events, verdicts, dead letters and shadow reports."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deploy import formats
from tests.fakes import DEAD_LETTERS, INPUT, VERDICTS, FakeBroker
from tests.schemas import problems
from tests.unit.test_pipeline import NOW, event, make, step
from tests.unit.test_shadow import Contrary, Shaded
from worker.messages import Event, Outgoing, Record, Unreadable, UnreadableError, decode
from worker.simulate.poison import ODD, UNREADABLE
from worker.simulate.shape import Swell
from worker.simulate.stream import Mix, Stream

MAX_BYTES = 65_536
FILES = {path.name: path for path in formats.FORMATS.iterdir()}
SCHEMAS: dict[str, Any] = {name: json.loads(FILES[name].read_text()) for name in FILES if name.endswith(".json")}
EVENT, VERDICT = SCHEMAS["event-v1.schema.json"], SCHEMAS["verdict-v1.schema.json"]
HEADERS = SCHEMAS["dead-letter-headers.schema.json"]
REPORTS = {kind: SCHEMAS[f"shadow-{kind}.schema.json"] for kind in ("disagreement", "summary")}
# What a schema says by its type and by its required fields.
STRUCTURAL = {Unreadable.NOT_AN_OBJECT, Unreadable.MISSING_TEXT, Unreadable.WRONG_TYPE}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
likely = st.none() | st.text(max_size=20) | st.integers() | st.integers(946_684_800_000, 4_102_444_800_000)
events = st.fixed_dictionaries(
    {}, optional={name: st.one_of(st.text(), likely, anything) for name in (*Event.__struct_fields__, "more")}
)


def refusal(value: bytes | None, *, max_bytes: int = MAX_BYTES) -> Unreadable | None:
    try:
        decode(Record(INPUT, 0, 0, time.time(), None, value), max_bytes=max_bytes)
    except UnreadableError as error:
        return error.reason
    return None


def test_the_committed_files_are_what_the_types_give() -> None:
    assert formats.stale() == [], "run `python -m deploy.formats`"
    assert set(FILES) == {path.name for path, _ in formats.files()}


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_s_own_example_fits_it(name: str) -> None:
    schema = SCHEMAS[name]

    assert schema["$schema"] == formats.DIALECT
    assert [problems(example, schema) for example in schema["examples"]] == [[]]


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_field_has_a_description(name: str) -> None:
    schema = SCHEMAS[name]

    for part in (schema, *schema.get("$defs", {}).values()):
        assert part["description"]
        assert all(field["description"] for field in part.get("properties", {}).values())


def test_what_traffic_has_fits_the_event_where_it_can_be_read() -> None:
    stream = Stream(Mix(poison=0.2, tombstones=0.01, traced=0.1), "test", random.Random(7))
    sent: list[Outgoing] = [stream.event(time.time()) for _ in range(2000)]
    sent += [stream.of_campaign(Swell(0.0, 9.0, 1.0, 3), time.time()) for _ in range(50)]
    sent += [made for odd in ODD for made in (_said(odd(stream.dice)), _said(odd(stream.dice), received_at=None, id=7))]

    read = [each.value for each in sent if each.value is not None and refusal(each.value) is None]

    assert len(read) > 1500
    assert [value for value in read if problems(json.loads(value), EVENT)] == []


def _said(text: str, **more: Any) -> Outgoing:
    return Outgoing(None, json.dumps({"text": text, **more}).encode())


@pytest.mark.parametrize("reason", sorted(UNREADABLE))
def test_what_poison_breaks_in_structure_the_schema_refuses_too(reason: Unreadable) -> None:
    poison = UNREADABLE[reason](random.Random(3))

    assert refusal(poison) is reason
    if reason in STRUCTURAL or reason is Unreadable.BAD_TIMESTAMP:
        assert problems(json.loads(poison), EVENT)


@given(anything | events)
def test_what_the_schema_refuses_is_a_dead_letter_and_a_wrong_structure_is_refused_by_both(made: Any) -> None:
    reason = refusal(json.dumps(made).encode())

    if problems(made, EVENT):
        assert reason
    if reason in STRUCTURAL and not _is_whole_but_written_as_a_fraction(made):
        assert problems(made, EVENT)


def _is_whole_but_written_as_a_fraction(made: Any) -> bool:
    """JSON Schema has one kind of number: 1.0 is an integer to it, and not to the decoder."""
    return isinstance(made, dict) and any(isinstance(each, float) and each.is_integer() for each in made.values())


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ([], Unreadable.NOT_AN_OBJECT),
        ({}, Unreadable.MISSING_TEXT),
        ({"text": None}, Unreadable.WRONG_TYPE),
        ({"text": 1}, Unreadable.WRONG_TYPE),
        ({"text": "x", "id": True}, Unreadable.WRONG_TYPE),
        ({"text": "x", "id": 1.5}, Unreadable.WRONG_TYPE),
        ({"text": "x", "id": "i" * 513}, Unreadable.TOO_LARGE),
        ({"text": "x", "sender": ["+44"]}, Unreadable.WRONG_TYPE),
        ({"text": "x", "lang": 4}, Unreadable.WRONG_TYPE),
        ({"text": "x", "received_at": 1_790_000_000}, Unreadable.BAD_TIMESTAMP),
    ],
)
def test_schema_and_decoder_refuse_the_same(made: Any, reason: Unreadable) -> None:
    assert problems(made, EVENT)
    assert refusal(json.dumps(made).encode()) is reason


def test_what_the_pipeline_writes_fits() -> None:
    broker = FakeBroker()
    stream = Stream(Mix(poison=0.3), "test", random.Random(5))
    made = [stream.event(time.time()) for _ in range(60)]
    for each in made:
        broker.append(INPUT, 0, time.time(), each.key, each.value, (*each.headers, ("reason", b"the sender's own")))
    broker.feed(event("", id=5), event("nan"), event("win", id="\x00" * 512), event("win"), at=time.time())

    step(make(broker, clock=time.time))

    verdicts = [json.loads(record.value or b"") for record in broker.records(VERDICTS)]
    letters = [
        {name: None if its is None else its.decode() for name, its in each.headers}
        for each in broker.records(DEAD_LETTERS)
    ]
    assert len(verdicts) > 20
    assert {each["reason"] for each in verdicts} == {None, "empty-text", "non-finite-score"}
    assert [found for each in verdicts for found in problems(each, VERDICT)] == []
    assert len(letters) > 10
    assert {each["reason"] for each in letters} <= set(Unreadable)
    assert [found for each in letters for found in problems(each, HEADERS)] == []


def test_what_a_shadow_reports_fits() -> None:
    broker = FakeBroker(partitions=1)
    broker.feed(*(event(text, id=f"m{n}") for n, text in enumerate(["win a prize", "see you at seven"] * 9)), at=NOW)
    shaded = Shaded(broker, Contrary())

    step(shaded.pipeline)
    shaded.finish()

    reports = [json.loads(each.value or b"") for each in shaded.reports]
    assert {each["kind"] for each in reports} == {"disagreement", "summary"}
    assert [found for each in reports for found in problems(each, REPORTS[each["kind"]])] == []


@pytest.mark.parametrize(
    "change", [{"action": "maybe"}, {"score": 1.5}, {"source": {}}, {"flags": None}, {"scored_at": "yesterday"}]
)
def test_what_is_no_verdict_does_not_fit(change: dict[str, Any]) -> None:
    assert problems(VERDICT["examples"][0] | change, VERDICT)


def test_the_asyncapi_document_refers_only_to_what_is_there() -> None:
    document = yaml.safe_load(FILES[formats.ASYNCAPI].read_text())

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if "$ref" in part else []
            return own + [found for its in part.values() for found in references(its)]
        return [found for its in part for found in references(its)] if isinstance(part, list) else []

    for reference in references(document):
        if reference.startswith("./"):
            assert reference.removeprefix("./") in SCHEMAS
            continue
        target = document
        for name in reference.removeprefix("#/").split("/"):
            target = target[name]
    assert {reference for reference in references(document) if reference.startswith("./")} == {
        f"./{name}" for name in SCHEMAS
    }
