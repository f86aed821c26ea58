"""A base of our own also guesses what a teacher sees in a text, and keeps nothing of that but its own weights."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean
from typing import TYPE_CHECKING

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from tests.toy_recipe import TOY, quiet
from training.data.split import Row
from training.fit import batches, pretrain, train
from training.fit.batches import STATE_UNIT, Example, collate

if TYPE_CHECKING:
    from pathlib import Path

LEARNING = msgspec.structs.replace(
    TOY, pretraining=msgspec.structs.replace(TOY.pretraining, epochs=12, dropout=0.0, states=1.0)
)
TOPICS = {"the train is late": bytes([40, 216]), "a parcel came": bytes([216, 40])}
"""Each topic's state: 1.25 and -1.25, or the other way round."""
ROWS = [Row(f"{topic} {number}", "ham", number, state=state) for number in range(48) for topic, state in TOPICS.items()]
"""All of them ham: spam's texts would borrow the other topic's words."""


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seen: list[float] = []
    real = batches.state_loss

    def watched(guessed: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        found = real(guessed, states)
        seen.append(found.item())
        return found

    monkeypatch.setattr(batches, "state_loss", watched)
    return seen


def test_states_are_learnt_and_the_base_is_an_ordinary_one(tmp_path: Path, losses: list[float]) -> None:
    pretrain.make_base(LEARNING, ROWS, tmp_path, seed=0, progress=quiet)

    assert mean(losses[-6:]) < 0.2 * mean(losses[:6])
    assert not [name for name in load_file(tmp_path / "base" / "model.safetensors") if "states" in name]


def test_rows_without_states_are_learnt_as_before(tmp_path: Path, losses: list[float]) -> None:
    plain = [replace(row, state=b"") for row in ROWS]
    without = msgspec.structs.replace(LEARNING, pretraining=msgspec.structs.replace(LEARNING.pretraining, states=0.0))
    pretrain.make_base(LEARNING, plain, tmp_path / "one", seed=0, progress=quiet)
    pretrain.make_base(without, plain, tmp_path / "other", seed=0, progress=quiet)
    one, other = (load_file(tmp_path / name / "base" / "model.safetensors") for name in ("one", "other"))

    assert losses == []
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_text_without_a_state_counts_for_nothing_beside_one_that_has_one() -> None:
    batch = collate([Example([5, 6], 0, state=bytes([32, 224])), Example([7], 1)], pad=3)

    assert batch.states[0].tolist() == [32 * STATE_UNIT, -32 * STATE_UNIT]
    assert batch.states[1].isnan().all()
    guessed = torch.tensor([[0.0, 0.0], [9.0, 9.0]])
    assert batches.state_loss(guessed, batch.states).item() == pytest.approx(1.0)


def test_a_base_and_its_adapter_each_have_epochs_of_their_own(tmp_path: Path) -> None:
    rows = [replace(row, source="uci") for row in ROWS]
    messages = [replace(row, spam=0.5) for row in ROWS]
    own = msgspec.structs.replace(LEARNING.pretraining, epochs=1, taught=16, repeated={"uci": 2, "other": 9})
    asked = msgspec.structs.replace(LEARNING, pretraining=own)
    other = msgspec.structs.replace(asked, fit=msgspec.structs.replace(asked.fit, taught=40, repeated={"uci": 5}))
    told: list[int] = []
    for made in (asked, other):
        pretrain.make_base(
            made, rows, tmp_path / str(len(told)), seed=0, taught=messages,
            progress=lambda _phase, _step, steps, _loss, _tokens: told.append(steps),
        )  # fmt: skip

    assert set(told) == {(2 * len(rows) + 16) // own.batch}
    assert pretrain.made_by(asked) == pretrain.made_by(other)
    one, same = (load_file(path / "base" / "model.safetensors") for path in sorted(tmp_path.iterdir()))
    assert all(torch.equal(one[name], same[name]) for name in same)
    again = msgspec.structs.replace(asked, pretraining=msgspec.structs.replace(own, repeated={}))
    assert pretrain.made_by(again) != pretrain.made_by(asked)


def test_an_adapter_learns_what_its_own_epochs_are_made_of(tmp_path: Path) -> None:
    rows = [replace(row, source="uci", label=label) for row in ROWS for label in ("ham", "spam")]
    fit = msgspec.structs.replace(TOY.fit, epochs=1, taught=16, repeated={"uci": 2})
    own = msgspec.structs.replace(TOY.pretraining, epochs=1)
    told: dict[str, int] = {}
    train.fit(
        msgspec.structs.replace(TOY, fit=fit, pretraining=own), rows, tmp_path, seed=0, taught=rows[:40],
        progress=lambda phase, _step, steps, _loss, _tokens: told.update({phase: steps}),
    )  # fmt: skip

    each = fit.batch * fit.accumulation
    assert told == {"base, epoch 1/1": len(rows) // own.batch, "adapter, epoch 1/1": (2 * len(rows) + 16) // each}
