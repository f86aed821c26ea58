"""The modern corpus: how much it holds, that only the words tell its classes apart, that it can be made again."""

from __future__ import annotations

import json
import re
from collections import Counter
from statistics import mean, median
from typing import TYPE_CHECKING

import pytest

from training.data import balance, clusters, fillers, modern, sources, surface
from training.data import split as data
from training.data.modern import Made, Message, Template
from training.data.sources import DataError
from training.judge import moderncard

if TYPE_CHECKING:
    from pathlib import Path

FICTION = re.compile(
    r"[2-9]\d\d5550[01]\d\d|5550\d{6}|(?:0|44)7700900\d{3}|02079460\d{3}|01632960\d{3}|0808157\d{4}|03069990\d{3}"
    r"|01\d14960\d{3}|011\d4960\d{3}|0209\d{6}|049157\d{4}|1[38]00975\d{3}|0[23478](?:5550|7010)\d{4}|0\d55501\d\d"
    r"|08005550\d\d|0805550\d{4}|0909879\d{4}|019900\d{4}|026191\d{4}|046571\d{4}|053649\d{4}|063998\d{4}|03023125\d{3}|06990009\d{3}"
    r"|04066969\d{3}|08999998\d{3}|0176040690\d\d|\d*555(?:01|0)\d{2,3}|\d*000\d*"
)
"""Ranges that are reserved for fiction, 555, and numbers with a run of zeros that nobody is given."""


@pytest.fixture(scope="module")
def made() -> Made:
    return modern.make()


@pytest.fixture(scope="module")
def messages() -> tuple[Message, ...]:
    return modern.read()


@pytest.fixture(scope="module")
def card() -> dict[str, object]:
    return dict(json.loads(moderncard.CARD.read_text(encoding="utf-8")))


def test_the_files_in_git_are_what_the_voices_give(made: Made, messages: tuple[Message, ...]) -> None:
    moderncard.check(made)

    assert messages == made.messages


def test_there_is_enough_of_everything(made: Made) -> None:
    families = Counter(each.family for each in made.messages)
    kinds = {label: {each.kind for each in made.messages if each.label == label} for label in data.THREE}

    assert len(made.messages) >= 10_000
    assert made.one_off >= 4_000
    assert len(families) >= 1_500
    assert max(families.values()) <= len(made.messages) / 100
    assert len(kinds["ham"]) >= 40
    assert len(kinds["smishing"]) >= 30


def test_english_comes_first_and_every_language_wanted_is_there(messages: tuple[Message, ...]) -> None:
    languages = Counter(each.language for each in messages)

    assert languages["en"] / len(messages) >= 0.6
    assert set(languages) == set(modern.LANGUAGES)
    assert min(languages.values()) >= 50


def test_labels_kinds_senders_and_voices_are_of_closed_sets(messages: tuple[Message, ...]) -> None:
    kinds = modern.kinds()

    assert kinds["personal"] <= kinds["ham"]
    assert all(each.kind in kinds[each.label] for each in messages)
    assert {each.label for each in messages} == set(data.THREE)
    assert {each.sender for each in messages} == set(modern.SENDERS)
    assert {each.voice for each in messages} == set(modern.VOICES)
    assert all(each.family.startswith(f"{each.voice}-") for each in messages)


def test_no_text_stands_twice_and_none_under_two_labels(messages: tuple[Message, ...]) -> None:
    names = Counter(data.key(each.text) or each.text for each in messages)

    assert max(names.values()) == 1


def test_also_goes_with_the_pick_before_it() -> None:
    template = "{pick:Aba;Bela;Cera} {pick:x;y}: {also:1;2} {name} {also:1;2}"
    rows = {fillers.fill(template, voice="us", language="en", is_personal=False, number=at) for at in range(6)}

    assert {(row.split()[1], row.split()[2], row.split()[-1]) for row in rows} == {("x:", "1", "1"), ("y:", "2", "2")}


def test_no_slot_is_left_open(messages: tuple[Message, ...]) -> None:
    assert not [each.family for each in messages if fillers.SLOT.search(each.text)]


def test_a_group_holds_whole_families_and_all_their_near_duplicates(messages: tuple[Message, ...]) -> None:
    groups = [each.group for each in messages]
    together = clusters.by_minhash([data.key(each.text) or each.text for each in messages], clusters.silent)

    assert len(set(zip(groups, (each.family for each in messages), strict=True))) == len({m.family for m in messages})
    assert all(groups[at] == groups[root] for at, root in enumerate(together))


def test_few_families_are_near_duplicates_of_each_other(messages: tuple[Message, ...]) -> None:
    families: dict[str, set[str]] = {}
    for each in messages:
        families.setdefault(each.group, set()).add(each.family)
    joined = sum(len(names) for names in families.values() if len(names) > 1)

    assert joined / sum(map(len, families.values())) <= 0.02


@pytest.mark.parametrize("name", moderncard.BALANCED)
def test_organisations_and_scams_show_the_same_surface(messages: tuple[Message, ...], name: str) -> None:
    sides = moderncard.sides(messages)
    tolerance = 0.02 if name == "capitals" else 0.1
    shares = {side: mean(float(moderncard.BALANCED[name](seen)) for seen in rows) for side, rows in sides.items()}

    assert shares["scams"] == pytest.approx(shares["organisations"], abs=tolerance)


def test_organisations_and_scams_are_of_one_length(messages: tuple[Message, ...]) -> None:
    sides = moderncard.sides(messages)
    lengths = {side: median(seen.characters for seen in rows) for side, rows in sides.items()}

    assert 0.8 <= lengths["scams"] / lengths["organisations"] <= 1.25


@pytest.mark.long
def test_the_surface_alone_does_not_tell_scams_from_ham(
    messages: tuple[Message, ...], card: dict[str, dict[str, dict[str, float]]]
) -> None:
    found = moderncard.leaks(messages)

    assert {"all", "en", "es", "fr", "de", "pt", "tr", "ar"} <= set(found)
    for name, leak in found.items():
        # In a language of some 500 rows the figure has a standard error of 0.02.
        assert max(leak.linear, leak.boosted) < (0.7 if leak.rows > 5_000 else 0.72), name
        assert card["surface"][name] == pytest.approx(leak._asdict(), abs=0.02), name


def test_the_surface_tells_what_it_is_shown() -> None:
    texts = [f"pay now example{at % 7}.com" if at % 2 else f"see you later {at % 7}" for at in range(200)]

    leak = surface.leak(texts, [bool(at % 2) for at in range(200)], [str(at // 10) for at in range(200)])

    assert min(leak.linear, leak.boosted) > 0.99


def test_the_card_tells_what_is_in_the_table(made: Made, card: dict[str, object]) -> None:
    said = moderncard.card(made, {})

    assert {name: value for name, value in card.items() if name != "surface"} == {
        name: value for name, value in said.items() if name != "surface"
    }


def test_every_number_to_fill_in_is_of_a_range_nobody_is_given() -> None:
    for country, patterns in fillers.tables()["phones"].items():
        for pattern in patterns:
            digits = re.sub(r"\D", "", pattern.replace("N", "2").replace("#", "3"))
            assert FICTION.fullmatch(digits), f"{country}: {pattern}"


def test_every_number_to_call_in_a_voice_is_of_a_range_nobody_is_given() -> None:
    asked = re.compile(
        r"(?i:\b(?:call|ring|phone|helpline|hotline|whatsapp|dial|tel|llame al|ligue|appelez le|arayin)\b\D{0,12})"
        r"(\+?\(?\d[\d ().-]{7,}\d)"
    )
    found = [(each.family, number) for each in modern.templates() for number in asked.findall(each.text)]

    assert len(found) > 100
    assert not [family for family, number in found if not FICTION.fullmatch(re.sub(r"\D|^\+?1[ -]", "", number))]


def test_nobody_is_named_by_an_address() -> None:
    address = re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]+")
    roles = ("hr@", "imports@", "greffe@")

    assert not [
        each.family
        for each in modern.templates()
        for found in address.findall(each.text)
        if not found.startswith(roles) and f"\n@{found.partition('@')[2]}" not in each.text
    ]


def template(text: str, label: str = "ham", family: str = "us-0001", **other: str) -> Template:
    named = {"kind": "chat", "sender": "number", "language": "en", "voice": "us"} | other
    return Template(text=text, label=label, family=family, **named)


def test_an_edited_line_changes_its_own_rows_only() -> None:
    lines = [template(f"{word} owes {{name}} ${{amount}} until {{day}}", family=f"us-{word}") for word in "abc"]

    before = modern.make(lines).messages
    lines[1] = template("b now owes {name} ${amount} until {day}", family="us-b")
    after = modern.make(lines).messages

    assert {each.family for each in set(before) ^ set(after)} == {"us-b"}


def test_rows_of_a_template_differ_in_their_choices() -> None:
    made = modern.make([template("the {pick:cat;dog;hen} sat down on the old grey mat again")])

    assert {each.text.split()[1] for each in made.messages} <= {"cat", "dog", "hen"}
    assert len(made.messages) == len({each.text for each in made.messages}) > 1


def test_a_row_of_a_later_round_that_joins_two_groups_of_earlier_ones_is_left_out() -> None:
    words = [f"{one}{other}u" for one in "bdfghk" for other in "aeio"]
    texts = [" ".join(words[start : start + 20]) for start in (0, 2, 4)]
    lines = [template(texts[0], family="us-0001"), template(texts[2], family="us-0002")]
    between = template(texts[1], family="isles-0001", voice="isles")
    apart = modern.make(lines).messages

    made = modern.make(
        [*lines, between, template("see you at noon by the old bridge", family="isles-2", voice="isles")]
    )

    assert {each.group for each in apart} == {"us-0001", "us-0002"}
    assert made.messages[:2] == apart
    assert [each.family for each in made.messages] == ["us-0001", "us-0002", "isles-2"]
    assert made.dropped == {"near two groups of earlier rounds": 1}


def test_a_row_of_a_later_round_near_an_earlier_one_is_of_its_group() -> None:
    text = "your parcel waits at the corner shop until friday at six"
    lines = [template(text, family="us-0001"), template(f"{text} pm", family="isles-0001", voice="isles")]

    assert [each.group for each in modern.make(lines).messages] == ["us-0001", "us-0001"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_scam_whose_text_is_lawful_elsewhere_is_dropped(order: int) -> None:
    lines = [template("is this still available", family="us-ham"), template("Is this still available?", "smishing")]

    made = modern.make(lines[::order])

    assert [each.label for each in made.messages] == ["ham"]
    assert made.dropped == {"scam whose text is lawful elsewhere": 1}


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "pay £{amount} at royalmail.co.uk/{path} by {date}", r"pay £[\d,]+(\.\d\d)? at .* by \d\d?[ /]\w+"),
        ("de", "Bitte zahlen Sie {amount} EUR bis {date}.", r".* [\d.]+(,\d\d)? EUR bis \d\d?\.( \w+|\d\d)\."),
        ("tr", "hattiniz {time}'te kapanacak sayin abonemiz, bilginize", r".* \d\d[:.]\d5'te .*"),
        ("fr", "on se voit {day} à {hour} devant l'école ?", r"on se voit \w+di à \d+h .*|on se voit dimanche .*"),
    ],
)
def test_slots_are_filled_in_the_style_of_the_country(language: str, text: str, expected: str) -> None:
    voice = "uk" if language == "en" else "europe"

    for number in range(8):
        row = fillers.fill(text, voice=voice, language=language, is_personal=False, number=number)
        assert re.fullmatch(expected, row), row


def test_a_line_without_marks_gets_words_without_marks() -> None:
    text = "Sayin abonemiz, {day} gunu elektrik kesintisi olacaktir {name}"

    rows = [fillers.fill(text, voice="europe", language="tr", is_personal=False, number=at) for at in range(20)]

    assert all(row.isascii() for row in rows)


def test_a_shape_that_leans_gives_fewer_rows_and_its_rare_class_more() -> None:
    leaning = [("ham", "your code is 4821", "en", True)] * 40 + [("smishing", "your code is 4821", "en", True)] * 4

    found = balance.fitted(leaning)

    shape = balance.shape("your code is 4821", "en")
    assert found["ham"][shape] < balance.usual("en") < found["smishing"][shape]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("ham | chat | number | en", "not label, kind"),
        ("spam | chat | number | en | hello", "no kind is called chat"),
        ("ham | chat | fax | en | hello", "no sender is called fax"),
        ("ham | chat | number | la | hello", "no language is called la"),
        ("ham | chat | number | en | hello {nobody}", "no slot is called nobody"),
        ("ham | chat | number | en | {pick:a;b} {also:c}", "{also:c} needs as many choices as the pick before it"),
    ],
)
def test_a_voice_with_a_mistake_is_named_with_its_line(tmp_path: Path, line: str, complaint: str) -> None:
    for voice in modern.VOICES:
        (tmp_path / f"{voice}.txt").write_text(f"# a voice\n{line}\n")

    with pytest.raises(DataError, match=rf"africa\.txt:2: {complaint}"):
        list(modern.templates(tmp_path))


def test_the_table_is_a_source_whose_groups_no_split_parts(tmp_path: Path) -> None:
    kept = [
        Message("first\ttext\nwith \\ all", "ham", "chat", "us-0001", "us-0001", "number", "en", "us"),
        Message("nothing like it whatsoever", "smishing", "job", "us-0002", "us-0001", "number", "en", "us"),
        Message("a third one stands alone", "spam", "astrology", "us-0003", "us-0003", "number", "en", "us"),
    ]
    place = tmp_path / "messages.tsv"
    place.write_text(modern.written(kept))

    read, _ = sources.read(place, data.THREE)
    prepared = data.prepare(place, labels=data.THREE)

    assert modern.read(place) == tuple(kept)
    assert [row.text for row in read] == [each.text for each in kept]
    assert [row.cluster for row in prepared.rows] == [0, 0, 2]
    assert [row.cluster for row in modern.rows(kept)] == [0, 0, 1]


def test_a_table_that_is_not_what_the_voices_give_is_refused(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "messages.tsv"
    stale.write_text(modern.written(made.messages[1:]), encoding="utf-8")
    monkeypatch.setattr(modern, "MESSAGES", stale)

    with pytest.raises(DataError, match=r"messages\.tsv is not what the voices give"):
        moderncard.check(made)
