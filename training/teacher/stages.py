"""The stages of teaching, each kept in a file of the run's folder, so that a run goes on where it was interrupted.

asked.json            what all of it is made of
fold-K.safetensors    the judging teacher that has learnt all folds but K
writer.safetensors    the writing teacher
messages.jsonl        what it wrote, a line a round
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from training import whole
from training.data import disguises
from training.data import split as data
from training.fit.recipe import Fit
from training.teacher import judge, writer
from worker.model.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from training.data.mixture import Sourced
    from training.fit.batches import ProgressCallback
    from training.fit.encoder import Encoder
    from training.teacher.judge import JudgingTeacher
    from training.teacher.writer import Writing, WritingTeacher

MAX_TOKENS: Final = 160
ASKED: Final = "asked.json"
_FRUITLESS: Final = 20
"""Rounds in a row without a new message, after which the writer has no more to say."""


class TeacherError(RuntimeError):
    """A teacher that cannot be made here, or of this; the text says why."""


class TeachingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Folds, messages to write, and how both teachers learn.

    `round` is how many messages are written at once; `haste` the share of them that is typed in haste.
    """

    folds: int
    messages: int
    round: int
    fit: Fit
    writing: Writing
    haste: float = 0.25


class Teachers(NamedTuple):
    """Loaders of both teachers, called where a stage needs one; `about` names their weights."""

    encoder: Callable[[], Encoder]
    writer: Callable[[], WritingTeacher]
    about: Mapping[str, Any]


class Learnt(NamedTuple):
    """The rows that teachers learn from, the fold of each, and the keys that no message may have."""

    rows: tuple[Sourced, ...]
    fold: tuple[int, ...]
    known: frozenset[str]


class WrittenMessage(NamedTuple):
    """What a writer wrote, normalised, and the label of the heading that asked for it: no label to learn from."""

    label: str
    text: str


def folds(rows: Sequence[data.Row], count: int, seed: int) -> tuple[int, ...]:
    """Each row's fold: whole clusters in turn, in an order shuffled by the seed."""
    clusters = sorted({row.cluster for row in rows})
    random.Random(f"{seed}-folds").shuffle(clusters)
    place = {cluster: at % count for at, cluster in enumerate(clusters)}
    return tuple(place[row.cluster] for row in rows)


@dataclass(frozen=True, slots=True)
class Stages:
    """One run: each method does its stage, or reads what the stage left."""

    plan: TeachingPlan
    learnt: Learnt
    teachers: Teachers
    run: Path
    seed: int
    on: torch.device
    progress: ProgressCallback

    def begin(self) -> None:
        """Note what is asked for. Raises TeacherError where the folder holds stages of something else."""
        asked = {"plan": msgspec.to_builtins(self.plan), "seed": self.seed, "rows": data.digest(self.learnt.rows)}
        text = json.dumps(asked | dict(self.teachers.about), indent=1, sort_keys=True) + "\n"
        self.run.mkdir(parents=True, exist_ok=True)
        file = self.run / ASKED
        if file.is_file():
            if file.read_text() != text:
                message = f"{self.run}: stages of other rows, another seed or plan; remove it, or name another by --run"
                raise TeacherError(message)
        elif any(self.run.iterdir()):
            message = f"{self.run}: holds something else than a teacher's stages; name a new folder by --run"
            raise TeacherError(message)
        else:
            whole.write(file, text)

    def learn(self, judging: JudgingTeacher, fold: int) -> None:
        """Let the teacher know every fold but this one."""
        file = self.run / f"fold-{fold}.safetensors"
        if file.exists():
            judging.take(_read(file))
            return
        rows = [row for row, each in zip(self.learnt.rows, self.learnt.fold, strict=True) if each != fold]
        seed, name = self.seed * self.plan.folds + fold, f"fold {fold + 1} of {self.plan.folds}"
        judge.learn(judging, rows, self.plan.fit, seed=seed, name=name, progress=self.progress)
        _keep(judging.learnt(), file)

    def messages(self) -> list[WrittenMessage]:
        """As many new messages as the plan asks for. Raises TeacherError where the writer repeats itself."""
        file, wanted = self.run / "messages.jsonl", self.plan.messages
        rounds, headings = _rounds(file), writer.headings(self.learnt.rows)
        writing: WritingTeacher | None = None
        found: dict[str, WrittenMessage] = {}
        number = fruitless = 0
        while len(found) < wanted:
            if number == len(rounds):
                writing = writing or self._writer()
                drawn = writing.write(headings, self.plan.round, self.seed * 100_003 + number)
                rounds.append([WrittenMessage(name.label, text) for name, text in drawn])
                with file.open("a", encoding="utf-8") as opened:
                    opened.write(json.dumps(rounds[-1]) + "\n")
            before = len(found)
            for name, message in self._new(rounds[number], number).items():
                found.setdefault(name, message)
            fruitless = 0 if len(found) > before else fruitless + 1
            if fruitless == _FRUITLESS:
                problem = f"the writer wrote nothing new in {fruitless} rounds, after {before} of {wanted} messages"
                raise TeacherError(problem)
            number += 1
            self.progress("messages", min(len(found), wanted), wanted, 0.0, 0)
        return list(found.values())[:wanted]

    def _new(self, drawn: Iterable[WrittenMessage], number: int) -> dict[str, WrittenMessage]:
        """What no row says, by the text's key; a share is typed in haste."""
        dice = random.Random(f"{self.seed}-{number}-haste")
        found: dict[str, WrittenMessage] = {}
        for label, text in drawn:
            plain = normalise(disguises.sloppy(text, dice) if dice.random() < self.plan.haste else text)
            name = data.key(plain)
            if name and name not in self.learnt.known and "\ufffd" not in text:
                # A line is a message: every white space that could end one becomes a space.
                found.setdefault(name, WrittenMessage(label, " ".join(plain.split())))
        return found

    def _writer(self) -> WritingTeacher:
        file, made = self.run / "writer.safetensors", self.teachers.writer()
        made.model.to(self.on)
        weights: dict[str, Tensor] = dict(made.model.named_parameters())
        if file.exists():
            kept = _read(file)
            with torch.no_grad():
                for name, each in weights.items():
                    each.copy_(kept[name])
        else:
            made.learn(self.learnt.rows, self.plan.writing, self.seed, self.progress)
            _keep(weights, file)
        return made


def _rounds(file: Path) -> list[list[WrittenMessage]]:
    """What earlier rounds wrote. A round that was cut short by a crash does not count, and is written again."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        whole.write(file, "".join(lines[:-1]))
        del lines[-1]
    return [[WrittenMessage(*each) for each in json.loads(line)] for line in lines]


def _keep(weights: Mapping[str, Tensor], file: Path) -> None:
    """Write them, whole or not at all."""
    with whole.writing(file) as making:
        save_file({name: each.detach().cpu().contiguous() for name, each in weights.items()}, making)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        message = f"{file}: cannot be read ({type(error).__name__}); remove it, and the same command makes it again"
        raise TeacherError(message) from None


FULL: Final = TeachingPlan(
    folds=4,
    messages=160_000,
    round=2048,
    fit=Fit(
        epochs=4, learning_rate=8e-5, batch=48, warmup_steps=80, weight_decay=0.01, max_tokens=MAX_TOKENS, augment=True,
        punctuated=0.15, sloppy=0.3, rehosted=0.3,
    ),
    writing=writer.Writing(epochs=3, learning_rate=1.5e-4, batch=32),
)  # fmt: skip
TOY: Final = TeachingPlan(
    folds=2,
    messages=20,
    round=64,
    fit=Fit(epochs=1, learning_rate=1e-3, batch=16, max_tokens=MAX_TOKENS, augment=True, sloppy=0.3, rehosted=0.3),
    writing=writer.Writing(epochs=1, learning_rate=1e-2, batch=32),
)
