"""The language of a text, and whether a bundle's evaluation covers texts like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model import coverage
from worker.model.bundle import Coverage
from worker.model.coverage import is_outside
from worker.model.languages import CODES, language_of
from worker.model.normalise import normalise

COVERED = Coverage(scripts=("LATIN",), tokens_a_character=0.5, languages=("en", "es"))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Are we still meeting at seven? I can bring the papers with me.", "en"),
        ("Su paquete no pudo ser entregado hoy, volveremos mañana por la mañana", "es"),
        ("Votre colis sera livré demain entre huit heures et midi", "fr"),
        ("Ihr Termin beim Zahnarzt wurde auf nächsten Dienstag verschoben", "de"),
        ("Paket Anda akan dikirim besok pagi, mohon ditunggu di rumah", "id"),
        ("Mzigo wako utafika kesho asubuhi, tafadhali uwe nyumbani", "sw"),
        ("आपका पार्सल कल सुबह पहुंच जाएगा, कृपया घर पर रहें", "hi"),
        ("سيصل طردك غدا صباحا، يرجى التواجد في المنزل", "ar"),
        ("您的包裹将于明天上午送达，请在家等候", "zh"),
        ("החבילה שלך תגיע מחר בבוקר, נא להיות בבית", "he"),
        ("ok", None),
        ("482913", None),
        ("", None),
    ],
)
def test_a_language_is_found_where_there_is_enough_to_go_by(text: str, language: str | None) -> None:
    assert language_of(normalise(text)) == language


def test_a_disguise_does_not_change_the_language() -> None:
    text = "WINNER! You have been selected for a prize, call the number to claim it today"
    disguised = "".join(f"{letter}\u200b" for letter in text.replace("a", "а").replace("e", "е"))  # Cyrillic

    assert language_of(normalise(disguised)) == language_of(text) == "en"


@given(st.text(max_size=400) | st.text(alphabet=st.characters(categories=("Cs", "Cc", "Cn", "Lo")), max_size=60))
def test_any_text_has_a_language_of_the_list_or_none(text: str) -> None:
    assert language_of(text) in {None, *CODES}


@pytest.mark.parametrize(
    ("text", "tokens", "language", "outside"),
    [
        ("Are we still meeting at seven?", 8, "en", False),
        ("Votre colis sera livre demain", 8, "fr", True),  # a language that is not covered
        ("Votre colis sera livre demain", 8, None, False),  # not known to be one
        ("mtn wld brq xkz 3ala tool fe el bayt bukra", 24, None, True),  # cut too finely
        ("hm", 2, None, False),  # too short to say
        ("Ваша посылка прибудет завтра", 10, None, True),  # another script
        ("Meeting at 7, Привет", 5, "en", True),  # more than a fifth in another script
        ("Meeting at seven o'clock sharp as agreed ☺ да", 9, "en", False),
        ("☺☺☺ 123", 3, None, False),  # no letters at all
    ],
)
def test_a_text_is_outside_by_language_script_or_how_finely_it_is_cut(
    text: str, tokens: int, language: str | None, *, outside: bool
) -> None:
    assert is_outside(text, tokens, language, COVERED) is outside


def test_coverage_without_languages_says_nothing_of_them() -> None:
    covered = Coverage(scripts=("LATIN",), tokens_a_character=0.5)

    assert not is_outside("Votre colis sera livre demain", 8, "fr", covered)


def test_latin_letters_are_outside_of_what_covers_none() -> None:
    covered = Coverage(scripts=("ARABIC",), tokens_a_character=1.0)

    assert is_outside("Are we still meeting?", 5, "en", covered)
    assert not is_outside("12345", 2, None, covered)


def test_an_evaluation_covers_what_it_has_enough_of() -> None:
    english = [(f"Are we still meeting at seven, number {n}, with the papers?", 14) for n in range(999)]
    french = [("Votre colis sera livre demain entre huit heures et midi", 30)] * 19
    odd = [("zxqv " * 8, 40)]

    covered = coverage.of([*english, *french, *odd], ["chat"] * 30 + ["rare"] * 2)

    assert covered.scripts == ("LATIN",)
    assert covered.languages == ("en",)
    assert covered.kinds == ("chat",)
    assert 30 / 55 <= covered.tokens_a_character < 1
    assert not any(is_outside(text, tokens, language_of(text), covered) for text, tokens in english)
    assert is_outside(french[0][0], 30, "fr", covered)
