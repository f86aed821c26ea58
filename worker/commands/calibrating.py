"""`hamgate calibrate`: a carrier's own lawful texts to bands that hold its budgets. No text is shown or kept."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from worker import loading
from worker.loading import MODEL_ERRORS
from worker.messages import Action
from worker.messages.repair import repaired
from worker.model.classifier import published
from worker.policy.bands import NEVER
from worker.process import signals as leaving
from worker.rollout import budgets

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from worker.model.models_in_service import Model
    from worker.rollout.budgets import Fitted
    from worker.settings import Settings

_AT_ONCE: Final = 256


class _Line(msgspec.Struct):
    text: str


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Thresholds for both budgets, the texts they are of, and what to set."""

    model: str
    texts: int
    unscored: int
    flags: dict[str, int]
    flag: Fitted
    block: Fitted
    settings: dict[str, str]


def calibrate(settings: Settings, options: argparse.Namespace) -> int:
    """Score the file's texts, and print the bands to set."""
    if not 0 < options.blocked <= options.flagged < 1:
        print("calibrate: --flagged and --blocked must hold: 0 < blocked <= flagged < 1", file=sys.stderr)  # noqa: T201
        return leaving.USAGE
    try:
        model = loading.model(settings)
        with contextlib.ExitStack() as stack:
            opened = sys.stdin.buffer if options.file == "-" else stack.enter_context(open(options.file, "rb"))  # noqa: PTH123
            found = fit(model, texts(opened), flagged=options.flagged, blocked=options.blocked)
    except (*MODEL_ERRORS, OSError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    if options.json:
        print(json.dumps(asdict(found)))  # noqa: T201 the answer
    else:
        for line in report(found):
            print(line)  # noqa: T201 the answer
    return 0


def texts(lines: Iterable[bytes]) -> Iterator[str]:
    """Each line's text: of a JSON object its `text`, as in an event; else the line itself. Empty lines are none."""
    for line in lines:
        text = line.removeprefix(codecs.BOM_UTF8).decode(errors="replace").strip("\r\n")
        if text.startswith("{"):
            with contextlib.suppress(msgspec.DecodeError):
                text = msgspec.json.decode(repaired(line)[0], type=_Line).text
        if text.strip():
            yield text


def fit(model: Model, lawful: Iterable[str], *, flagged: float, blocked: float) -> Calibrated:
    """Score lawful texts, and choose the bands. Raises ValueError where no text has a score.

    A text that the policy never blocks, or never flags, whatever its score, takes nothing of that budget.
    """
    policy, classifier = model.verdicts.policy, model.classifier
    parts: list[tuple[NDArray[np.float64], list[Action]]] = []
    flags: Counter[str] = Counter()
    unscored = 0
    lawful = iter(lawful)
    while some := list(itertools.islice(lawful, _AT_ONCE)):
        prepared = classifier.prepare(some)
        scores = classifier.judge(prepared)
        unscored += int((~scores.scored).sum())
        kept = [message for message, is_scored in zip(prepared, scores.scored, strict=True) if is_scored]
        parts.append((published(scores.score[scores.scored]), [policy.most(message.flags) for message in kept]))
        flags.update(itertools.chain.from_iterable(message.flags for message in kept))
    scored = np.concatenate([part for part, _ in parts]) if parts else np.empty(0)
    if not len(scored):
        message = "no text with a score: give lawful texts, one a line, or JSON lines with a `text`"
        raise ValueError(message)
    most = [action for _, actions in parts for action in actions]
    may_flag = np.array([action is not Action.DELIVER for action in most])
    may_block = np.array([action is Action.BLOCK for action in most])
    flag = budgets.fit(np.where(may_flag, scored, 0.0), flagged)
    block = budgets.fit(np.where(may_block, scored, 0.0), blocked)
    to_set = _settings(policy.banded.threshold, flag, block)
    return Calibrated(model.name, len(scored), unscored, dict(flags), flag, block, to_set)


def _settings(threshold: float, flag: Fitted, block: Fitted) -> dict[str, str]:
    """Bands around a threshold that lies between them; a band that too few texts speak of is not set."""
    made: dict[str, float] = {}
    moved = threshold
    if flag.is_known:
        made["HAMGATE_FLAG_FROM"] = flag.threshold
        moved = max(moved, flag.threshold)
    if block.is_known:
        made["HAMGATE_BLOCK_FROM"] = max(block.threshold, flag.threshold if flag.is_known else 0.0)
        moved = min(moved, made["HAMGATE_BLOCK_FROM"])
    if moved != threshold:
        made["HAMGATE_THRESHOLD"] = moved
    return {name: f"{min(value, NEVER):g}" for name, value in made.items()}


def report(found: Calibrated) -> Iterator[str]:
    """The answer for people."""
    yield f"{found.model}: {found.texts:,} lawful texts scored, {found.unscored:,} without a score"
    if found.flags:
        yield "flags: " + ", ".join(f"{name} {count:,}" for name, count in sorted(found.flags.items()))
    yield f"{'':<7}{'budget':>8}{'threshold':>11}  {'95 % interval':<22}{'at or above':>12}  95 % interval of the share"
    for name, each in (("flag", found.flag), ("block", found.block)):
        high = "unknown" if each.high is None else f"{each.high:.6f}"
        yield (
            f"{name:<7}{each.budget:>8.2%}{each.threshold:>11.6f}  {f'{each.low:.6f} to {high}':<22}"
            f"{each.reached:>12,}  {each.share_low:.3%} to {each.share_high:.3%}"
        )
        if not each.is_known:
            yield f"  too few texts for {name} at {each.budget:g}: {each.texts:,}, at least {each.needed:,} are needed"
    if not found.block.is_known:
        yield f"  until then HAMGATE_BLOCK_FROM={NEVER:g} flags and blocks nothing"
    yield "set:" if found.settings else "nothing to set"
    for name, value in found.settings.items():
        yield f"  {name}={value}"
