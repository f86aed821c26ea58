"""Values for the slots of the modern corpus: names, dates, amounts, numbers in the style of the line's country."""

from __future__ import annotations

import random
import re
import tomllib
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from training.data.split import DATA

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE: Final = DATA / "modern" / "fillers.toml"
SLOT: Final = re.compile(r"\{([^{}]*)\}")
_PICK: Final = "pick:"
_ALSO: Final = "also:"
"""Choices that go with those of the `pick` before: the first with the first, so that a brand has its own host."""
_LITERAL_TIME: Final = re.compile(r"\b\d{1,2}:\d\d\b")
_TO_THE_MINUTE: Final = re.compile(r"\{(?:last4|code|amount|money|alnum)")
"""Systems note payments and codes to the minute; people and timetables say a round one."""
_SENTENCE_STARTS: Final = re.compile(r"(?:^|[.!?\n])\s*$")
_ARABIC: Final = re.compile(r"[\u0600-\u06ff]")
_ORDER_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_UNMARKED: Final = str.maketrans({
    "ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "ı": "i", "İ": "I",
})  # fmt: skip
_TURKISH: Final = str.maketrans("öüÖÜ", "ouOU")
_MARKED: Final = ("fr", "de", "tr", "es", "pt")
"""Languages that people also write without their marks."""
_LONG: Final = 40
"""Characters from which a line without a single mark is taken to be written without marks."""

_NOON, _EVENING = 12, 17
_HUNDRED, _LARGE = 100, 5_000
_COMMA: Final = frozenset({"FR", "DE", "TR", "ES", "BR", "PT", "AR", "CL", "CO", "ID"})
"""Countries whose amounts have a decimal comma, and a point between thousands (France: a space)."""
_TWELVE: Final = frozenset({"US", "CA", "PH"})
"""Countries whose clocks have twelve hours."""
_POINT: Final = frozenset({"GB", "IE", "AU", "ZA"})
"""Countries that part hours and minutes by a point, too."""
_BOTH: Final = frozenset({"GB", "IE", "AU", "NZ", "IN", "SG", "MY", "HK", "ZA", "NG", "KE", "GH"})
"""Countries that write both, 14:20 and 2.20pm."""
_SCALES: Final = {
    "TZ": (500, 100), "UG": (500, 100), "ID": (1000, 100), "CO": (1000, 100), "CL": (500, 50), "NG": (50, 10),
    "AR": (100, 50), "KE": (20, 1), "IN": (10, 1), "TR": (10, 1), "PH": (10, 1), "HK": (5, 1), "MX": (5, 1),
}  # fmt: skip
"""Factors for small and larger amounts in dollars, by country whose currency has other magnitudes."""
_WHOLE: Final = frozenset({"TZ", "UG", "ID", "CO", "CL", "NG", "KE", "AR"})
"""Countries whose amounts mostly stand without decimals."""


@cache
def tables() -> dict[str, Any]:
    """The file of names, weekdays and number ranges."""
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    return {country: re.compile(pattern) for country, pattern in tables()["hints"].items()}


def slots(template: str) -> list[str]:
    """The names of the slots in a template, without the choices that it gives itself."""
    return [name for name in SLOT.findall(template) if not name.startswith((_PICK, _ALSO))]


def unmatched(template: str) -> list[str]:
    """The `also` slots that do not have as many choices as the `pick` before them, or have none before."""
    wrong: list[str] = []
    choices = 0
    for name in SLOT.findall(template):
        if name.startswith(_PICK):
            choices = name.count(";") + 1
        elif name.startswith(_ALSO) and name.count(";") + 1 != choices:
            wrong.append(name)
    return wrong


def country(voice: str, language: str, text: str, dice: random.Random) -> str:
    """Return the country of a line, by currency, host or place, else the voice's own country for that language."""
    allowed = tables()["countries"][voice].split()
    for name, pattern in _patterns().items():
        if name in allowed and pattern.search(text):
            return name
    own = tables()["default"][voice]
    return dice.choice(str(own.get(language, next(iter(own.values())))).split())


@dataclass
class Line:
    """One row in the making: where it stands, how it is written, and what was already drawn for it."""

    text: str
    country: str
    language: str
    is_personal: bool
    dice: random.Random
    used: set[str] = field(default_factory=set)
    drawn: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Draw dates and times for the whole line, so that they rise from left to right."""
        literal = SLOT.sub("", self.text)
        self.is_casual = self.is_personal and literal == literal.lower()
        self.is_unmarked = self.language in _MARKED and len(literal) >= _LONG and literal.isascii()
        self.has_clock = bool(_LITERAL_TIME.search(literal))
        self.style = self.dice.random()
        for slot, draw in (("date", self._day_of_year), ("time", self._minute), ("hour", self._hour)):
            self.drawn[slot] = sorted((draw() for _ in range(self.text.count(f"{{{slot}}}"))), reverse=True)

    def leans(self, share: float) -> bool:
        """Whether this row is of the given share that is written another way."""
        return self.style < share

    def _day_of_year(self) -> int:
        return self.dice.randrange(12) * 31 + self.dice.randrange(1, 28)

    def _minute(self) -> int:
        minute = self.dice.randrange(8 * 60, (14 if self.has_clock else 20) * 60)
        return minute if self.leans(0.5) and _TO_THE_MINUTE.search(self.text) else minute // 5 * 5

    def _hour(self) -> int:
        return self.dice.randrange(8, 21)


def fill(template: str, *, voice: str, language: str, is_personal: bool, number: int) -> str:
    """The template's row of this number. It depends on nothing but the template itself and its voice."""
    orders = iter(range(template.count("{")))
    last = 0

    def pick(found: re.Match[str]) -> str:
        nonlocal last
        order = next(orders)
        if not found[1].startswith((_PICK, _ALSO)):
            return found[0]
        if found[1].startswith(_PICK):
            last = order
        options = found[1].removeprefix(_PICK).removeprefix(_ALSO).split(";")
        random.Random(f"{voice}\t{template}\t{last}").shuffle(options)
        return options[number % len(options)]

    text = SLOT.sub(pick, template)
    dice = random.Random(f"{voice}\t{template}\t{number}")
    line = Line(text, country(voice, language, text, dice), language, is_personal, dice)
    made = ""
    at = 0
    for found in SLOT.finditer(text):
        made += text[at : found.start()]
        made += _FILLERS[found[1]](line, made, text[found.end() :])
        at = found.end()
    return made + text[at:]


def _digits(count: int) -> Callable[[Line, str, str], str]:
    def fill_digits(line: Line, _before: str, _after: str) -> str:
        return "".join(str(line.dice.randrange(10)) for _ in range(count))

    return fill_digits


def _number(least: int, most: int) -> Callable[[Line, str, str], str]:
    def fill_number(line: Line, _before: str, _after: str) -> str:
        return str(line.dice.randint(least, most))

    return fill_number


def _order(count: int) -> Callable[[Line, str, str], str]:
    def fill_order(line: Line, _before: str, _after: str) -> str:
        drawn = line.dice.choices(_ORDER_LETTERS, k=(count + 1) // 2) + line.dice.choices("23456789", k=count // 2)
        line.dice.shuffle(drawn)
        return "".join(drawn)

    return fill_order


def _path(line: Line, _before: str, _after: str) -> str:
    letters = "abcdefghijkmnpqrstuvwxyz23456789"
    if line.leans(0.35):  # about a third of shorteners distinguish upper and lower case
        letters += _ORDER_LETTERS
    return "".join(line.dice.choices(letters, k=line.dice.randint(4, 8)))


def _code_with_dash(line: Line, _before: str, _after: str) -> str:
    return f"{line.dice.randrange(1000):03}-{line.dice.randrange(1000):03}"


def _phone(line: Line, _before: str, _after: str) -> str:
    pattern = line.dice.choice(tables()["phones"][line.country])
    return "".join(
        str(line.dice.randrange(10)) if each == "#" else str(line.dice.randrange(2, 10)) if each == "N" else each
        for each in pattern
    )


def _named(table: str) -> Callable[[Line, str, str], str]:
    def fill_name(line: Line, before: str, _after: str) -> str:
        names = tables()[table]
        script = (
            "-hi" if line.language == "hi" else "-ar" if line.language == "ar" or _ends_arabic(line, before) else ""
        )
        shared = tables()["shared"]
        places = (shared.get(place, place) for place in (line.country + script, line.country))
        place = next(place for place in places if place in names)
        options = [each for each in names[place].split(", ") if each not in line.used]
        name = str(line.dice.choice(options))
        line.used.add(name)
        return _as_written(line, name.lower() if line.is_casual and line.leans(0.6) else name)

    return fill_name


def _ends_arabic(line: Line, before: str) -> bool:
    return line.language == "mix" and bool(_ARABIC.search(before[-8:]))


def _weekday(line: Line, before: str, _after: str) -> str:
    days = tables()["days"]
    language = "ar" if _ends_arabic(line, before) else line.language
    day = str(line.dice.choice(days.get(language, days["en"]).split()))
    if language in {"fr", "es", "pt", "tr"} and _SENTENCE_STARTS.search(before):
        day = day[0].upper() + day[1:]
    if line.is_casual:
        day = day.lower()
    return _as_written(line, day)


def _date(line: Line, _before: str, after: str) -> str:
    month, day = divmod(line.drawn["date"].pop(), 31)
    months = tables()["months"]
    named = str(months.get(line.language, months["en"]).split()[month])
    form = _written_date(line, day, month + 1, named)
    return _as_written(line, form.removesuffix(".") if after.startswith(".") else form)


def _written_date(line: Line, day: int, month: int, named: str) -> str:
    digits = f"{day:02}/{month:02}"
    forms: tuple[str, ...]
    if line.language == "de":
        forms = (f"{day:02}.{month:02}.", f"{day}. {named}")
    elif line.language == "tr":
        forms = (f"{day:02}.{month:02}.2025", f"{day} {named}")
    elif line.language in {"es", "pt"}:
        forms = (digits, f"{day} de {named}")
    elif line.country == "US":
        forms = (f"{month}/{day}", f"{named[:3]} {day}", f"{named} {day}")
    elif line.country == "IN" and line.language == "en":
        forms = (digits, f"{day} {named[:3]}", f"{day:02}-{named[:3]}-25", f"{digits}/25")
    elif line.language in tables()["months"] and line.language != "en":
        forms = (digits, f"{day} {named}")
    else:
        forms = (digits, f"{day} {named[:3]}", f"{day} {named}")
    return forms[int(line.style * len(forms))]


_ENDINGS: Final = {
    "'te": (5, 15, 25, 35, 45, 55), "'ta": (40,), "'de": (20, 50), "'da": (10, 30), "’te": (5, 15, 35), "’de": (20, 50),
}  # fmt: skip
"""Minutes after which Turkish has these endings."""


def _time(line: Line, _before: str, after: str) -> str:
    hour, minute = divmod(line.drawn["time"].pop(), 60)
    if line.language == "tr" and after[:3] in _ENDINGS:
        minute = line.dice.choice(_ENDINGS[after[:3]])
    return _clock(line, hour, minute)


def _clock(line: Line, hour: int, minute: int) -> str:
    """14:20, unless the line is one of those that write it as its country also does."""
    plain = f"{hour:02}:{minute:02}"
    if line.has_clock:
        return plain
    twelve, half = _twelve(hour)
    if line.language in {"en", "tl", "es-en", "mix", "pcm"}:
        if line.country in _TWELVE:
            is_short = line.is_personal or line.leans(0.4)
            return f"{twelve}:{minute:02}{half}" if is_short else f"{twelve}:{minute:02} {half.upper()}"
        if line.country in _BOTH and line.leans(0.4):
            return f"{twelve}.{minute:02}{half}" if line.country in _POINT else f"{twelve}:{minute:02} {half}"
    elif line.language == "fr" and line.leans(0.6):
        return f"{hour}h{minute:02}"
    elif line.language in {"id", "tr", "de"} and line.leans(0.4):
        return f"{hour:02}.{minute:02}"
    return plain


_HOURS: Final = {
    "fr": "{hour}h", "es": "{hour}h", "pt": "{hour}h", "ar-Latn": "{hour}h", "de": "{hour} Uhr", "tr": "{hour}.00",
    "id": "{hour}.00", "hi-Latn": "{twelve} baje", "hi": "{twelve} बजे", "sw": "saa {swahili} {part}",
    "ar": "{twelve} {part}",
}  # fmt: skip
_PARTS: Final = {"sw": ("asubuhi", "alasiri", "jioni"), "ar": ("الصبح", "العصر", "المغرب")}
"""Morning, afternoon, evening."""


def _hour(line: Line, _before: str, _after: str) -> str:
    hour = line.drawn["hour"].pop()
    twelve, half = _twelve(hour)
    if form := _HOURS.get(line.language):
        parts = _PARTS.get(line.language, ("", "", ""))
        part = parts[(hour >= _NOON) + (hour >= _EVENING)]
        return form.format(hour=hour, twelve=twelve, swahili=(hour - 7) % 12 + 1, part=part)
    return f"{twelve} {half}" if line.leans(0.2) and not line.is_casual else f"{twelve}{half}"


def _twelve(hour: int) -> tuple[int, str]:
    return (hour - 1) % 12 + 1, "pm" if hour >= _NOON else "am"


def _sum(*, is_large: bool) -> Callable[[Line, str, str], str]:
    def fill_sum(line: Line, _before: str, after: str) -> str:
        small, large = _SCALES.get(line.country, (1, 1))
        share = line.dice.random()
        value = large * (60 + 9_440 * share * share * share) if is_large else small * (2 + 58 * share)
        if after[:1].isdigit() or after.startswith((",000", ",500", "k")):  # it counts hundreds or thousands
            return str(line.dice.randrange(6, 95) * 10)
        if line.is_personal or line.country in _WHOLE:
            step = 5 if value < _HUNDRED else 10 if value < _LARGE else 500
            return _grouped(line, max(step, round(value / step) * step), None)
        has_cents = not is_large or line.leans(0.55)
        return _grouped(line, int(value), line.dice.randrange(100) if has_cents else None)

    return fill_sum


def _grouped(line: Line, whole: int, cents: int | None) -> str:
    comma = line.country in _COMMA
    mark = " " if line.country == "FR" else "." if comma else "'" if line.country == "CH" else ","
    said = f"{whole:,}".replace(",", mark)
    if line.is_personal and line.leans(0.5) and line.country not in _WHOLE:
        said = str(whole)
    return said if cents is None else f"{said}{',' if comma else '.'}{cents:02}"


def _as_written(line: Line, text: str) -> str:
    """The text without its marks where its line has none."""
    if not line.is_unmarked:
        return text
    text = text.translate(_TURKISH) if line.language == "tr" else text
    plain = unicodedata.normalize("NFKD", text.translate(_UNMARKED))
    return "".join(each for each in plain if not unicodedata.combining(each))


_FILLERS: Final[dict[str, Callable[[Line, str, str], str]]] = {
    "code4": _digits(4), "code5": _digits(5), "code6": _digits(6), "code8": _digits(8), "codedash": _code_with_dash,
    "alnum6": _order(6), "alnum10": _order(10), "last4": _digits(4), "num1": _number(2, 9), "num2": _number(10, 99),
    "num3": _number(100, 999), "num4": _number(1_000, 9_999), "money": _sum(is_large=False),
    "amount": _sum(is_large=True), "name": _named("names"), "surname": _named("surnames"), "day": _weekday,
    "date": _date, "time": _time, "hour": _hour, "path": _path, "phone": _phone,
}  # fmt: skip
SLOTS: Final = frozenset(_FILLERS)
