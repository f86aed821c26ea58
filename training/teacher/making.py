"""What the teachers say of our rows and of new messages, to `data/taught`, with a card of how it was made.

Rows are cut into folds by cluster, and each is judged by the teacher that has not learnt its fold. Messages, and rows
that no fold holds, are judged by the mean of all.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from training import hardware, metrics, results, whole
from training.data import mixture, taught
from training.data import split as data
from training.data.split import LABELS
from training.teacher import stages, states
from training.teacher.judge import JudgingTeacher
from training.teacher.stages import Learnt, Stages, TeacherError
from worker.model.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.data.mixture import Sourced
    from training.fit.batches import ProgressCallback
    from training.teacher.stages import Teachers, TeachingPlan

CARD: Final = "card.json"
_LEFT_OUT: Final = "uci"
"""The collection that no teacher learns, so that its five honest splits stay honest for the students."""


def device(*, is_toy: bool) -> torch.device:
    """The GPU; for a toy whatever there is. Raises TeacherError."""
    if not torch.cuda.is_available() and not is_toy:
        message = "fine-tuning both teachers needs an NVIDIA GPU; --toy tries every stage at toy size on a CPU"
        raise TeacherError(message)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make(  # noqa: PLR0913 what is made, of what, where
    plan: TeachingPlan,
    rows: Sequence[Sourced],
    teachers: Teachers,
    run: Path,
    out: Path,
    *,
    seed: int,
    on: torch.device,
    progress: ProgressCallback,
) -> dict[str, Any]:
    """Write `data/taught`'s three files and its card; returns the card. Goes on where it was interrupted.

    `rows` are the mixture's; what is learnt is the fitting part of its split 0, without UCI. Raises TeacherError.
    """
    parts = mixture.cut(rows, 0)
    fit, *held = ([row for row in part if row.source != _LEFT_OUT] for part in parts)
    fold = stages.folds(fit, plan.folds, seed)
    learnt = Learnt(tuple(fit), fold, frozenset(data.key(row.text) for row in rows))
    made = Stages(plan, learnt, teachers, run, seed, on, progress)
    made.begin()
    judging = JudgingTeacher(teachers.encoder()).to(on)
    for each in range(plan.folds):
        made.learn(judging, each)
    messages = made.messages()
    asked = {name: [normalise(row.text) for row in part] for name, part in zip(_HELD, held, strict=True)}
    asked[_MESSAGES] = [message.text for message in messages]
    odds = {name: np.zeros(len(texts), dtype=np.float32) for name, texts in asked.items()}
    own, plain = np.zeros(len(fit), dtype=np.float32), [normalise(row.text) for row in fit]
    judging.begin(seed)  # its states are taken before it learns, so that no label is in them
    before = judging.states([*plain, *asked[_MESSAGES]])
    for each in range(plan.folds):
        made.learn(judging, each)
        mine = [at for at, number in enumerate(fold) if number == each]
        own[mine] = judging.log_odds([plain[at] for at in mine])
        for name, texts in asked.items():
            odds[name] += judging.log_odds(texts) / plan.folds
        progress("judging", each + 1, plan.folds, 0.0, 0)
    told = [
        taught.Told(each, state.tobytes())
        for each, state in zip([*own.tolist(), *odds[_MESSAGES].tolist()], states.reduced(before), strict=True)
    ]
    taught.write(zip(fit, told[: len(fit)], strict=True), zip(asked[_MESSAGES], told[len(fit) :], strict=True), out)
    by_part = {"out-of-fold": (fit, own)} | {
        name: (part, odds[name]) for name, part in zip(_HELD, held, strict=True)
    }  # fmt: skip
    as_asked = (odds[_MESSAGES] > 0) == np.array([message.label != LABELS[0] for message in messages])
    card = {
        "seed": seed,
        "folds": plan.folds,
        "rows": len(fit),
        "rows-digest": data.digest(fit),
        "by-collection": dict(Counter(row.source for row in fit)),
        "messages": len(messages),
        "messages-digest": hashlib.sha256("\n".join(asked[_MESSAGES]).encode()).hexdigest(),
        "judged-spam": round(float((odds[_MESSAGES] > 0).mean()), 4),
        "judged-as-asked": round(float(as_asked.mean()), 4),
        "states": states.VALUES,
        "figures": _figures(by_part),
        "teachers": dict(teachers.about),
        "device": hardware.device(),
        "commit": results.commit(),
        "command": results.command(),
    }
    whole.write(out / CARD, json.dumps(card, indent=1) + "\n")
    return card


_HELD: Final = ("calibration", "test")
_MESSAGES: Final = "messages"


def _figures(parts: Mapping[str, tuple[Sequence[Sourced], NDArray[np.float32]]]) -> dict[str, Any]:
    """AUC with its interval over clusters, of each part and of each collection in it that has both classes."""
    found = {}
    for name, (rows, odds) in parts.items():
        for source in ("", *mixture.SOURCES):
            places = np.array([at for at, row in enumerate(rows) if source in {"", row.source}], dtype=np.intp)
            spam = np.array([rows[at].label != LABELS[0] for at in places])
            if not 0 < spam.sum() < len(spam):
                continue
            score = odds[places].astype(np.float64)

            def auc(
                at: NDArray[np.intp], spam: NDArray[np.bool_] = spam, score: NDArray[np.float64] = score
            ) -> dict[str, float]:
                return {"auc": metrics.auc(spam[at], score[at])}

            figure = metrics.clustered(auc, [rows[at].cluster for at in places])["auc"]
            entry = {"value": round(figure.value, 4), "range": figure.interval, "rows": len(places)}
            found["/".join(filter(None, ("auc", name, source)))] = entry
    return found
