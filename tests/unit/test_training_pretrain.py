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
from training.fit import batches, pretrain
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
