"""Unicode's forms are Unicode's, in a time that is linear: no text, sender or link can hold the writer up by marks."""

from __future__ import annotations

import time
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model.normalise import normalise
from worker.policy.addresses import normal
from worker.policy.forms import nfkc, nfkd
from worker.policy.links import hosts
from worker.policy.lists.finding import numbers
from worker.policy.registry.skeleton import skeleton

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOKING = {
    "hosts": hosts,
    "numbers": numbers,
    "skeleton": skeleton,
    "normalise": normalise,
    "address": normal,
    "nfkc": nfkc,
    "nfkd": nfkd,
}
_MARKS = {
    "two classes": "\u0300\u0316",
    "half-width voicing, which is a letter before it is decomposed": "\u0300\uff9e",
    "Tibetan vowels that decompose into two marks": "\u0f71\u0f73\u0f74",
}


@pytest.mark.parametrize("unit", _MARKS.values(), ids=_MARKS)
@pytest.mark.parametrize("look", _LOOKING.values(), ids=_LOOKING)
def test_marks_upon_marks_cost_no_square_of_their_number(look: Callable[[str], object], unit: str) -> None:
    text = "a.com " + unit * (30_000 // len(unit))
    began = time.process_time()

    look(text)

    assert time.process_time() - began < 0.4  # what is quadratic takes 0.7 s and more, what is linear 0.03


@given(st.text(max_size=40))
def test_what_no_pile_is_in_has_unicodes_own_forms(text: str) -> None:
    assert nfkc(text) == unicodedata.normalize("NFKC", text)
    assert nfkd(text) == unicodedata.normalize("NFKD", text)
