"""Texts of people, banks, shops and spammers: templates of our own, with numbers that belong to nobody.

Modern lawful traffic (one-time codes, bank alerts, deliveries) is in no public set. It is most of a carrier's, so it is
most of this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.model.bundle import HARMLESS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path

_CHAT: Final = (
    "Running {n} min late, sorry! Order me a {drink}?",
    "Did {name} call you back about {day}?",
    "ok see you at {hour}, bring the charger",
    "Happy birthday {name}!! Hope you have a lovely day x",
    "can you pick up milk and {food} on the way home",
    "lol no way. tell me everything when you get here",
    "Train's stuck outside {town} again. Home by {hour} maybe",
    "Thanks for {day}, the kids loved it. {name} still talks about the {food}",
    "Is the {hour} match still on? It's pouring here",
    "I've left the keys with {name} at number {n}",
    "Mum says dinner at {hour}. Don't be late this time",
    "What was the name of that place in {town}?",
    "On my way 🚗",
    "Yes",
    "😂😂😂",
    "j'arrive dans {n} minutes, attends-moi devant",
    "Bin schon unterwegs, bis {hour}",
)
_NOTICES: Final = (
    "{code} is your verification code. It expires in {n} minutes. Do not share it with anyone.",
    "Your {bank} security code is {code}. We will never ask you for it by phone.",
    "{bank}: card ending {tail} used for {money} at {shop}, {town}. Not you? Call the number on your card.",
    "{bank}: your balance is below {money}. Reply BAL for your balance, STOP to end these messages.",
    "Your parcel {parcel} is out for delivery today between {hour} and {hour}. No need to reply.",
    "We missed you! {parcel} is at {shop}, {town}, for {n} days. Bring ID.",
    "Reminder: your appointment with Dr {name} is on {day} at {hour}. Reply C to cancel.",
    "{shop}: your order {parcel} is ready to collect. Open until {hour} today.",
    "Your table for {n} at {shop} is confirmed for {day}, {hour}.",
    "Your {town} bus pass ends on {day}. Renew in the app.",
    "School will open at {hour} on {day} because of the snow.",
)
_OFFERS: Final = (
    "{shop}: 20% off everything for members until {day}. Show this text in store. Reply STOP to opt out.",
    "Hi {name}, your loyalty points at {shop} are worth {money}. Use them by {day}. STOP to end",
)
_SPAM: Final = (
    "WINNER!! You have been selected for a {money} prize. Call {premium} now to claim",
    "URGENT! Your {bank} account is locked. Verify at {link} within {n} hours or lose access",
    "Your parcel could not be delivered: pay the {small} fee at {link} to release it",
    "Hi mum, my phone broke, this is my new number. Can you send {money} today? x",
    "FREE entry in our weekly draw for {money} cash! Text WIN to {short}. Terms {link}",
    "You are owed a tax refund of {money}. GroupMetadata before {day}: {link}",
    "Earn {money} a day from home, no experience needed. Message {premium} on the app",
    "Final notice: unpaid toll of {small}. Avoid a penalty, pay now at {link}",
    "Hot singles in {town} want to meet YOU tonight! Reply YES to {short}",
    "Loan of {money} approved for {name}! No checks. Apply: {link}",
)
_FILL: Final[dict[str, Sequence[str]]] = {
    "name": ("Ana", "Ben", "Chidi", "Dora", "Eve", "Farid", "Grace", "Hugo", "Ines", "Jan", "Kofi", "Lena", "Mo"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "drink": ("flat white", "tea", "lemonade", "pint"),
    "food": ("bread", "eggs", "lasagne", "bananas", "that cake"),
    "town": ("Leeds", "Porto", "Graz", "Lyon", "Gdansk", "Cork"),
    "bank": ("Example Bank", "First Example", "Sample & Sons"),
    "shop": ("Corner Books", "The Test Kitchen", "Sample Shoes", "Placeholder Foods"),
}
# Look-alikes and gaps that a spammer hides behind; the normaliser's own subject.
_LOOKALIKES: Final = str.maketrans({"a": "а", "e": "е", "o": "о", "i": "і", "c": "с", "A": "А", "E": "Е", "O": "О"})
_LEET: Final = str.maketrans("aeiost", "43105+")
_ZERO_WIDTH: Final = "\u200b"


def _spaced(text: str, dice: random.Random) -> str:
    at = dice.randrange(len(text) // 2 + 1)
    return text[:at] + " ".join(text[at : at + 12]) + text[at + 12 :]


_DISGUISES: Final[tuple[Callable[[str, random.Random], str], ...]] = (
    lambda text, _: text.translate(_LOOKALIKES),
    lambda text, _: text.translate(_LEET),
    lambda text, dice: "".join(letter + _ZERO_WIDTH * (dice.random() < 0.3) for letter in text),  # noqa: PLR2004
    _spaced,
    lambda text, dice: f"{text} {_filled(dice.choice(_CHAT), dice)}",
)


@dataclass(frozen=True, slots=True)
class Given:
    """Messages of one's own, in place of the templates."""

    ham: tuple[str, ...]
    spam: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Given:
        """One message a line, or `label<TAB>message` as the SMS Spam Collection has it; `ham` or another label.

        Raises ValueError when the file has no message that is not spam.
        """
        ham: list[str] = []
        unwanted: list[str] = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            label, tab, text = line.partition("\t")
            if line.strip():
                (unwanted if tab and label != HARMLESS else ham).append(text if tab else line)
        if not ham:
            message = f"{path}: no message in it that is not spam"
            raise ValueError(message)
        return cls(tuple(ham), tuple(unwanted))


def chat(dice: random.Random) -> str:
    """One person to another."""
    return _filled(dice.choice(_CHAT), dice)


def notice(dice: random.Random) -> str:
    """A lawful message of a program: codes, alerts, deliveries; now and then an offer somebody asked for."""
    return _filled(dice.choice(_OFFERS if dice.random() < 0.1 else _NOTICES), dice)  # noqa: PLR2004


def spam(dice: random.Random) -> str:
    """One spam message of its own."""
    return Campaign(dice).text(dice)


@dataclass(slots=True)
class Campaign:
    """One text sent many times with small changes: another link, another number, now and then another disguise."""

    dice: random.Random
    template: str = field(init=False)

    def __post_init__(self) -> None:
        """Choose what it says."""
        self.template = self.dice.choice(_SPAM)

    def text(self, dice: random.Random, disguised: float = 0.3) -> str:
        """The next message of it; `disguised` is the share that hides."""
        text = _filled(self.template, dice)
        return dice.choice(_DISGUISES)(text, dice) if dice.random() < disguised else text


def _filled(template: str, dice: random.Random) -> str:
    if "{" not in template:
        return template
    values = {name: dice.choice(choices) for name, choices in _FILL.items() if "{" + name in template}
    host = f"{dice.choice(('secure', 'parcel', 'refund', 'my'))}-{dice.randrange(10**4):04}.example"
    return template.format(
        **values,
        n=dice.randint(2, 15),
        hour=f"{dice.randint(7, 22)}:{dice.choice(('00', '15', '30', '45'))}",
        code=f"{dice.randrange(10**6):06}",
        tail=f"{dice.randrange(10**4):04}",
        parcel=f"PX{dice.randrange(10**8):08}",
        money=f"£{dice.choice((50, 120, 250, 500, 900, 1000, 2000, 5000))}",
        small=f"£{dice.choice(('1.45', '1.99', '2.50', '2.99'))}",
        premium=f"0906700{dice.randrange(1000):03}",
        short=f"8{dice.randrange(10**4):04}",
        link=f"http://{host}/{dice.randrange(10**5)}",
    )
