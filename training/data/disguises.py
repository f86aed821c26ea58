"""Disguises of spam: one function each, to judge a filter by, and mixed, to train one on.

The same is done to ham: a filter that flags all odd text is no filter. Each function takes a text and the dice to
throw, and never changes a text's meaning for a person who reads it.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Final

from worker.model.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LEET: Final = {"a": "4@", "b": "8", "e": "3", "g": "9", "i": "1!", "l": "1", "o": "0", "s": "5$", "t": "7"}
_LEET_BOTH: Final = _LEET | {letter.upper(): signs for letter, signs in _LEET.items()}
_LOOKALIKES: Final = {
    "a": "аɑα", "c": "сϲ", "d": "ԁ", "e": "еҽ", "g": "ɡ", "h": "һ", "i": "іɩ", "j": "ј", "k": "κк", "m": "м", "n": "ո",
    "o": "оοօ", "p": "рρ", "q": "ԛ", "s": "ѕ", "t": "т", "u": "υս", "v": "ѵν", "w": "ԝ", "x": "х", "y": "уү",
    "A": "АΑ", "B": "ВΒ", "C": "С", "E": "ЕΕ", "H": "НΗ", "I": "ІΙ", "J": "Ј", "K": "КΚ", "M": "МΜ", "N": "Ν",
    "O": "ОΟ", "P": "РΡ", "S": "Ѕ", "T": "ТΤ", "W": "Ԝ", "X": "ХΧ", "Y": "ҮΥ",
}  # fmt: skip
_INVISIBLE: Final = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
_WORD: Final = re.compile(r"[A-Za-z]{3,}")
_OWN_WORD: Final = re.compile(r"(?<![\w./@-])[A-Za-z]{3,}(?![\w/@-]|\.\w)")
"""A word that is no part of a link or an address."""
_LONG_WORD: Final = re.compile(r"[A-Za-z]{4,}")
_GAP: Final = re.compile(r"(?<=[^\W\d_])(?=[^\W\d_])")
_LETTER: Final = re.compile(r"[A-Za-z]")
_GOOD_WORDS: Final = (
    "see you at home later", "ok thanks a lot", "love you mum", "how was your day", "sorry i missed your call",
    "are you coming for dinner", "let me know when you get there", "good night sweet dreams", "i will be late today",
    "did you finish the work", "happy birthday dear", "talk to you tomorrow", "what are you doing now",
)  # fmt: skip
_STOPS: Final = "!?.,;:*~-"
_HALF: Final = 0.5
_HASTE: Final = (0.05, 0.1, 0.2, 0.3)
_MARKS: Final = re.compile(r"(?<=\w)[,.!?;:'](?=\s|$)")
_SHORT: Final = {
    "you": "u", "your": "ur", "are": "r", "to": "2", "for": "4", "please": "pls", "message": "msg", "text": "txt",
    "account": "acct", "because": "cos", "and": "&", "with": "w/", "thanks": "thx", "tomorrow": "tmrw",
    "number": "no", "before": "b4", "see": "c", "be": "b", "people": "ppl", "about": "abt", "que": "q", "por": "x",
}  # fmt: skip
_SYNONYMS: Final = {
    "account": "profile",
    "address": "location",
    "amount": "sum",
    "avoid": "prevent",
    "bank": "branch",
    "blocked": "restricted",
    "buy": "purchase",
    "call": "ring",
    "cancel": "stop",
    "card": "plastic",
    "cash": "money",
    "charge": "fee",
    "check": "look at",
    "claim": "collect",
    "click": "tap",
    "confirm": "approve",
    "customer": "client",
    "deliver": "bring",
    "delivery": "drop-off",
    "details": "data",
    "earn": "make",
    "expire": "lapse",
    "fee": "charge",
    "fine": "penalty",
    "free": "complimentary",
    "friend": "mate",
    "gift": "present",
    "help": "assist",
    "here": "below",
    "immediately": "at once",
    "job": "position",
    "link": "page",
    "lost": "missing",
    "message": "note",
    "money": "funds",
    "mum": "mother",
    "need": "require",
    "new": "fresh",
    "now": "right away",
    "number": "contact",
    "offer": "deal",
    "order": "purchase",
    "package": "parcel",
    "parcel": "package",
    "password": "passcode",
    "pay": "settle",
    "payment": "transfer",
    "phone": "handset",
    "please": "kindly",
    "prize": "reward",
    "receive": "get",
    "refund": "reimbursement",
    "reply": "answer",
    "reward": "bonus",
    "send": "transmit",
    "suspended": "on hold",
    "tax": "duty",
    "text": "message",
    "today": "this day",
    "transfer": "payment",
    "unpaid": "outstanding",
    "unusual": "strange",
    "update": "refresh",
    "urgent": "pressing",
    "verify": "validate",
    "visit": "go to",
    "win": "gain",
    "winner": "champion",
    "won": "gained",
    "work": "task",
}
_KEYS: Final = {
    letter: row[max(0, at - 1) : at] + row[at + 1 : at + 2]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for at, letter in enumerate(row)
}
HOST: Final = re.compile(r"(?<![@\w.-])(?:[a-z0-9-]+\.)+[a-z]{2,12}(?=[/?\s]|[.,!)]?(?:\s|$))", re.IGNORECASE)
"""The host of a link, whether the link has a scheme or none."""


def lookalikes(text: str, dice: random.Random) -> str:
    """Half of the letters drawn by characters of other alphabets."""
    return _swapped(text, _LOOKALIKES, dice, share=_HALF)


def zero_width(text: str, dice: random.Random) -> str:
    """An invisible character after every third letter."""
    return _LETTER.sub(lambda m: m[0] + (dice.choice(_INVISIBLE) if dice.random() < 1 / 3 else ""), text)


def spaced(text: str, dice: random.Random) -> str:
    """Half of the longer words s p a c e d out."""
    return _LONG_WORD.sub(lambda m: " ".join(m[0]) if dice.random() < _HALF else m[0], text)


def dotted(text: str, dice: random.Random) -> str:
    """Half of the longer words with d.o.t.s between their letters."""
    return _LONG_WORD.sub(lambda m: ".".join(m[0]) if dice.random() < _HALF else m[0], text)


def leet(text: str, dice: random.Random) -> str:
    """In words of three letters and more, half of the letters that a digit or sign can stand for."""
    return _WORD.sub(lambda m: _swapped(m[0], _LEET_BOTH, dice, share=_HALF), text)


def good_words(text: str, dice: random.Random) -> str:
    """Two harmless phrases appended."""
    return " ".join([text, *dice.sample(_GOOD_WORDS, 2)])


def misspelt(text: str, dice: random.Random) -> str:
    """Half of the longer words with one inner letter left out, doubled or swapped with the next."""
    return _LONG_WORD.sub(lambda m: _slipped(m[0], dice) if dice.random() < _HALF else m[0], text)


def punctuated(text: str, dice: random.Random) -> str:
    """One to three marks after half of the words."""
    words = text.split(" ")
    return " ".join(
        word + dice.choice(_STOPS) * dice.randint(1, 3) if dice.random() < _HALF else word for word in words
    )


def cased(text: str, dice: random.Random) -> str:
    """Each LeTteR iN a CASe thAT chanCE gIVeS."""
    return "".join(letter.upper() if dice.random() < _HALF else letter.lower() for letter in text)


def mixed(text: str, dice: random.Random) -> str:
    """Two of the other disguises, one on top of the other."""
    first, second = dice.sample(_SINGLE, 2)
    return second(first(text, dice), dice)


def sloppy(text: str, dice: random.Random) -> str:
    """Typed in haste: in words of any script some slips, short forms, spaces, marks and capitals left out."""
    share = dice.choice(_HASTE)
    words = [_SHORT.get(word.casefold(), word) if dice.random() < _HALF else word for word in text.split(" ")]
    words = [_mistyped(word, dice) if len(word) > 2 and dice.random() < share else word for word in words]  # noqa: PLR2004
    text = words[0] + "".join((" " if dice.random() > share / 4 else "") + word for word in words[1:])
    if dice.random() < share:
        text = _MARKS.sub("", text)
    return text.lower() if dice.random() < share else text


def synonyms(text: str, dice: random.Random) -> str:
    """Two thirds of the English words that another one can stand for exchanged for it, outside links."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        known = _SYNONYMS.get(word.lower())
        if known is None or dice.random() > 2 / 3:
            return word
        if word.isupper():
            return known.upper()
        return known.capitalize() if word[0].isupper() else known

    return _OWN_WORD.sub(other, text)


def rehosted(text: str, dice: random.Random, hosts: Sequence[str]) -> str:
    """The text with each link's host exchanged for one of `hosts`."""
    return HOST.sub(lambda _: dice.choice(hosts), text) if hosts else text


DISGUISES: Final[dict[str, Callable[[str, random.Random], str]]] = {
    "lookalikes": lookalikes,
    "zero-width": zero_width,
    "spaced": spaced,
    "dotted": dotted,
    "leet": leet,
    "good-words": good_words,
    "misspelt": misspelt,
    "punctuated": punctuated,
    "cased": cased,
    "mixed": mixed,
}
_SINGLE: Final = tuple(each for name, each in DISGUISES.items() if name != "mixed")
LEARNT: Final = ("leet", "leet", "misspelt", "spaced", "dotted", "good-words")
"""Disguises for `augment`: those the normaliser cannot wholly undo. The others are met only when judged, but for
`cased` and `punctuated`, which a recipe asks for where its base minds them."""
CUT: Final = "\x01"
"""Where a word is cut before it is tokenised; no text that was normalised has it."""


VARIED: Final[dict[str, Callable[[str, random.Random], str]]] = {**DISGUISES, "sloppy": sloppy, "synonyms": synonyms}
"""What a text is asked for anew by `training.judge.traffic`: disguises, and what is no disguise but other words."""


def disguise(name: str, texts: Sequence[str], seed: str) -> list[str]:
    """Every text under one disguise; the same texts and seed give the same again."""
    dice = random.Random(f"{seed}-{name}")
    return [VARIED[name](text, dice) for text in texts]


def augment(text: str, dice: random.Random, others: Sequence[str], *, is_ham: bool) -> str:
    """A message as it might also have come, normalised; `others` are ham to borrow words from.

    Mostly what is left of a disguise once it was normalised; else a few words or letters less, another case, other
    digits, words of a harmless message before or after.
    """
    throw = dice.random()
    if throw < 0.3:  # noqa: PLR2004 shares of the whole, each chosen on a slice of train
        for _ in range(1 if dice.random() > 0.2 else 2):  # noqa: PLR2004
            text = DISGUISES[dice.choice(LEARNT)](text, dice)
    elif throw < 0.38:  # noqa: PLR2004
        text = "".join(letter for letter in text if dice.random() > 0.05)  # noqa: PLR2004
    elif throw < 0.48:  # noqa: PLR2004
        text = " ".join([word for word in text.split() if dice.random() > 0.12]) or text  # noqa: PLR2004
    elif throw < 0.56:  # noqa: PLR2004
        text = text.upper() if dice.random() < _HALF else text.lower()
    if dice.random() < (0.15 if is_ham else 0.3):
        few = " ".join(dice.choice(others).split()[: dice.randint(2, 8)])
        text = f"{text} {few}" if dice.random() < 0.6 else f"{few} {text}"  # noqa: PLR2004
    if dice.random() < 0.3:  # noqa: PLR2004
        text = "".join(str(dice.randint(0, 9)) if letter.isdigit() else letter for letter in text)
    return normalise(text)


def cut(text: str, dice: random.Random, share: float) -> str:
    """The text with `CUT` in this share of its gaps between letters, so that its words are spelt in other pieces."""
    if not share:
        return text
    return _GAP.sub(lambda _: CUT if dice.random() < share else "", text)


def _swapped(text: str, table: dict[str, str], dice: random.Random, *, share: float) -> str:
    return "".join(dice.choice(table[c]) if c in table and dice.random() < share else c for c in text)


def _mistyped(word: str, dice: random.Random) -> str:
    """One letter left out, doubled, swapped with the next, or its neighbour's key hit."""
    at = dice.randrange(len(word) - 1)
    if not word[at].isalpha():
        return word
    one, rest = word[at], word[at + 1 :]
    beside = dice.choice(_KEYS.get(one.lower(), one))
    return word[:at] + dice.choice((rest, one + one + rest, rest[0] + one + rest[1:], beside + rest))


def _slipped(word: str, dice: random.Random) -> str:
    at = dice.randrange(1, len(word) - 1)
    one, rest = word[at], word[at + 1 :]
    return word[:at] + dice.choice((rest, one + one + rest, rest[0] + one + rest[1:]))
