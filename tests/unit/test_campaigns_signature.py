"""What stays the same between variants of a text, and what tells two texts apart."""

from __future__ import annotations

import re
import time
from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.campaigns import signature as signatures
from worker.campaigns.index import SIMILAR
from worker.campaigns.signature import (
    LENGTH,
    LINKING,
    Signature,
    constant,
    constants,
    is_enough,
    name_of,
    signatures_of,
)
from worker.campaigns.sketch import Different, Sketch
from worker.model.normalise import is_uncovered, normalise

PARCEL = "Your parcel is held at our depot. Pay the fee of £1.99 at https://parcel-fee.example/x7 to avoid return"


def signature(text: str) -> Signature | None:
    kept = constant(text)
    return signatures_of([kept])[0] if is_enough(kept) else None


def similarity(one: str, other: str) -> float:
    first, second = signature(one), signature(other)
    assert first is not None
    assert second is not None
    return float(np.mean(first == second))


@pytest.mark.parametrize(
    "variant",
    [
        PARCEL.replace("1.99", "24.50"),
        PARCEL.replace("https://parcel-fee.example/x7", "www.depot-pay.top"),
        PARCEL.replace("https://parcel-fee.example/x7", "depot.pay.co.uk/12?q=1"),
        PARCEL.upper(),
        f"Hello Sarah, {PARCEL}",
        f"Dear customer: {PARCEL}",
        f"🚨 {PARCEL} 📦",
        PARCEL.replace("parcel", "parcel AB12-99", 1),
        PARCEL.replace("depot.", "depot!!! "),
        PARCEL.replace("parcel", "pаrcel", 1),  # a Cyrillic letter
    ],
)
def test_numbers_links_codes_greetings_emoji_case_and_disguises_do_not_matter(variant: str) -> None:
    assert constant(variant) == constant(PARCEL)
    assert similarity(variant, PARCEL) == 1.0


@pytest.mark.parametrize(
    "variant",
    [
        PARCEL.replace("depot", "warehouse"),
        PARCEL.replace("parcel", "pacel", 1),
        PARCEL.replace("Your parcel is", "Ur package is"),
        f"{PARCEL}. Thank you",
    ],
)
def test_a_word_swapped_or_mistyped_leaves_a_text_near(variant: str) -> None:
    assert similarity(variant, PARCEL) >= SIMILAR


def test_a_notice_is_no_variant_of_the_scam_that_adds_a_link_to_it() -> None:
    notice = "Your PIN was changed at a cash machine on 11/11 09:08. If this was not you, ring the number on your card."

    assert similarity(notice, f"{notice} first-pin.example") < SIMILAR / 2


@pytest.mark.parametrize(
    "other",
    [
        "Your dentist appointment is on Tuesday at 10:30. Reply C to confirm, R to choose another time",
        "Are we still meeting at seven by the station? Bring the blue folder if you have it",
        "Your account has been locked after three attempts. Confirm your details at https://bank.example",
    ],
)
def test_other_texts_are_far(other: str) -> None:
    assert similarity(other, PARCEL) < SIMILAR / 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ok",
        "on my way",
        "Happy birthday!",
        "see you at seven",
        "123456",
        "https://a.example/b",
        "👍👍👍",
        "ha" * 40,
    ],
)
def test_a_text_too_short_to_tell_has_no_signature(text: str) -> None:
    assert signature(text) is None


def test_scripts_without_spaces_have_signatures_too() -> None:
    text = "您的包裹因地址不详无法派送请尽快点击链接更新您的地址信息以免被退回寄件人处理"

    assert similarity(f"{text}https://parcel.example/1", f"{text}888 www.parcel.example") == 1.0


@given(st.text(max_size=400))
def test_any_text_has_a_signature_of_one_length_or_none(text: str) -> None:
    found = signature(text)

    assert found is None or (found.shape, found.dtype) == ((LENGTH,), np.uint8)


@pytest.mark.parametrize("piece", ["a.", "a-", "1.a", "@", "a@", "http:", "-.", ".a", "£1", "é", "\u200b"])
@pytest.mark.timeout(20)
def test_no_text_takes_long(piece: str) -> None:
    signature(piece * (65_536 // len(piece)))


def test_of_a_long_text_no_more_is_normalised_than_is_kept() -> None:
    began = time.process_time()
    constant("\ufdfa" * 21_000)  # each becomes four words: 1 s, all in all

    assert time.process_time() - began < 0.4


def test_an_id_follows_from_the_wording_and_never_changes() -> None:
    found = signature(PARCEL)
    assert found is not None

    assert name_of(found) == "652275ba5bd91f1c"
    assert signatures.SCHEME == "3.1.2"


@given(st.lists(st.text(max_size=200), max_size=8))
def test_a_text_has_the_same_signature_in_whatever_batch_it_comes(texts: list[str]) -> None:
    kept = [each for text in [*texts, PARCEL] if is_enough(each := constant(text))]

    together = signatures_of(kept)

    assert together.tolist() == [signatures_of([each])[0].tolist() for each in kept]


PIECES = st.sampled_from(
    [
        "a.",
        ".io",
        "http:",
        "https:",
        "https",
        "www.",
        "//",
        "@",
        "7",
        "é7",
        " ",
        "\n",
        "x" * 25,
        ".",
        ":",
        "-",
        "٣",
        "£",
        "ß",
    ]
)
TEXTS = st.text(max_size=200) | st.lists(PIECES | st.text(max_size=3), max_size=30).map("".join)


@given(TEXTS)
def test_a_text_that_is_plain_need_not_be_normalised(text: str) -> None:
    if not is_uncovered(text, normalise(text)):
        assert constants([text]) == [constant(text)]


@given(st.lists(TEXTS, max_size=6))
def test_what_stays_the_same_is_words_without_the_runs_that_vary(texts: list[str]) -> None:
    """Held against the same in regular expressions, which take three times as long."""
    run, host = "[!-~£€₦₹¥]", r"[a-z0-9-]\.[a-z]{2,24}(?![a-z])"
    link = re.compile(rf"https?:|www\.|{host}")
    varying = re.compile(rf"(?<!{run})(?={run}*?(?:[0-9@]|{link.pattern})){run}+")
    plain = [normalise(f"x, {text}") for text in texts]

    found = constants(plain)

    assert found == [
        LINKING * bool(link.search(each)) + " ".join(re.findall(r"[^\W\d_]+", varying.sub(" ", each)))
        for each in (each.lower() for each in plain)
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 10, 40, 138, 170, 1000, 3000])
def test_sketches_are_right_in_the_mean(count: int) -> None:
    """One of them can be far off, since strings are hashed by another key in each process: 13 % is a standard error."""
    sketches = [Sketch() for _ in range(64)]
    for place, sketch in enumerate(sketches):
        for number in range(count):
            sketch.add(f"+4477{place:02}9{number:05}", None)

    assert mean(sketch.count(Different.SENDERS) for sketch in sketches) == pytest.approx(count, rel=0.15)
    assert not any(sketch.count(Different.RECIPIENTS) for sketch in sketches)


def test_one_that_comes_again_is_not_another() -> None:
    sketch = Sketch()
    for _ in range(1000):
        sketch.add(None, None, ("a.example",))

    assert sketch.count(Different.HOSTS) == 1
