"""The options of a recipe: each does what it says, and what comes of it is served as it was trained."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from tests.toy_recipe import TOY, quiet
from tests.unit.test_training_run import adapter, rows
from training.bundle import export
from training.data import split as data
from training.data.split import Row
from training.fit import batches, model, packing, recipe, runs, train
from training.fit.batches import Example
from training.fit.epochs import Epochs, shown
from training.fit.published import ReferenceEngine
from training.fit.recipe import RECIPES, Fit
from worker.engine import weights
from worker.engine.cpu import CpuEngine
from worker.model.classifier import Classifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from training.fit.recipe import Recipe


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy's base and tokenizer, made once, taken by every run here."""
    folder = tmp_path_factory.mktemp("base")
    train.fit(TOY, rows(120, 1), folder, seed=3, progress=quiet)
    return folder


def prepare(base: Path, chosen: Recipe, folder: Path) -> None:
    """A run that was interrupted when its base had just been made."""
    runs.begin(folder, runs.Run(chosen, 3, data.digest(rows(120, 1))))
    for part in ("base", "tokenizer"):
        (folder / part).symlink_to(base / part)


def fitted(base: Path, chosen: Recipe, folder: Path) -> Path:
    prepare(base, chosen, folder)
    train.fit(chosen, rows(120, 1), folder, seed=3, progress=quiet)
    return folder


@pytest.mark.parametrize(
    "levers",
    [
        pytest.param({"rslora": True}, id="rslora"),
        pytest.param({"dora": True}, id="dora"),
    ],
)
def test_a_lever_of_lora_changes_the_adapter_and_is_served_as_it_was_trained(
    base: Path, tmp_path: Path, levers: dict[str, bool]
) -> None:
    chosen = msgspec.structs.replace(TOY, lora=msgspec.structs.replace(TOY.lora, **levers), quantisation="nf4")

    run = fitted(base, chosen, tmp_path)

    plain, found = adapter(base), adapter(run)
    assert any(not torch.equal(found[name], weights) for name, weights in plain.items())
    bundle = export.export(run, rows(60, 2), "digest", tmp_path / "bundle")
    served = Classifier.load(bundle.folder)
    tokens = [message.tokens for message in served.prepare([row.text for row in rows(40, 5)])]
    np.testing.assert_allclose(
        served.engine.logits(tokens), ReferenceEngine(bundle).logits(tokens), rtol=2e-4, atol=2e-4
    )


def test_the_mean_of_the_weights_is_not_the_last_ones(base: Path, tmp_path: Path) -> None:
    chosen = msgspec.structs.replace(TOY, fit=msgspec.structs.replace(TOY.fit, average=0.9))

    found = adapter(fitted(base, chosen, tmp_path))

    assert any(not torch.equal(found[name], weights) for name, weights in adapter(base).items())


def test_dora_over_nf4_is_merged_into_what_training_computed_with(tmp_path: Path) -> None:
    torch.manual_seed(5)
    sizes = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, num_attention_heads=4, num_labels=2, pad_token_id=0, max_position_embeddings=64)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "base")
    dora = msgspec.structs.replace(TOY.lora, dora=True, dropout=0.0)
    chosen = msgspec.structs.replace(TOY, lora=dora, quantisation="nf4")
    adapted = model.build(chosen, tmp_path / "base", ("ham", "spam"), 0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
        if "magnitude" in name:
            parameter.data *= 1.2
    adapted.save_pretrained(tmp_path / "adapter")
    tokens = [[1, 5, 9, 40], [1], [3] * 30]

    trained = model.logits(adapted.train(), packing.pack([Example(row, 0) for row in tokens])).detach().numpy()
    read = weights.read(tmp_path / "base", tmp_path / "adapter", quantised=True, double=TOY.double_quantisation)

    np.testing.assert_allclose(CpuEngine(read).logits(tokens), trained, atol=1e-4)


@pytest.mark.long
def test_a_runs_mean_is_kept_when_it_is_interrupted(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = msgspec.structs.replace(TOY, fit=msgspec.structs.replace(TOY.fit, average=0.9))
    (tmp_path / "whole").mkdir()
    (tmp_path / "halved").mkdir()
    whole = adapter(fitted(base, chosen, tmp_path / "whole"))
    monkeypatch.setattr(train, "_SAVE_EVERY", 2)

    def stop(_phase: str, step: int, *_: object) -> None:
        if step == 5:
            raise KeyboardInterrupt

    prepare(base, chosen, tmp_path / "halved")
    with pytest.raises(KeyboardInterrupt):
        train.fit(chosen, rows(120, 1), tmp_path / "halved", seed=3, progress=stop)
    train.fit(chosen, rows(120, 1), tmp_path / "halved", seed=3, progress=quiet)

    resumed = adapter(tmp_path / "halved")
    assert all(torch.equal(resumed[name], weights) for name, weights in whole.items())


def test_tensorboard_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "is_tensorboard_available", lambda: False)

    with pytest.raises(train.BoardError, match="pip install tensorboard"):
        train.fit(TOY, rows(120, 1), tmp_path, seed=3, progress=quiet, board=tmp_path / "board")


def has_odd_case(text: str) -> bool:
    return any(a.islower() and b.isupper() for word in text.split() for a, b in itertools.pairwise(word))


def has_strewn_marks(text: str) -> bool:
    return re.search(r"[^\s,][!?.;:*~-]+(\s|$)", text) is not None


@pytest.mark.parametrize(
    ("lever", "is_seen"),
    [
        pytest.param("recased", has_odd_case, id="recased"),
        pytest.param("punctuated", has_strewn_marks, id="punctuated"),
    ],
)
@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.9, 60, 100)])
def test_a_disguise_comes_to_the_share_of_messages_that_was_asked_for(
    lever: str, is_seen: Callable[[str], bool], share: float, least: int, most: int
) -> None:
    class Listening:
        pad_token_id = 0

        def __init__(self) -> None:
            self.heard: list[str] = []

        def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
            self.heard += texts
            return {"input_ids": [[1] for _ in texts]}

    fit = msgspec.structs.replace(Fit(epochs=1, learning_rate=1e-3, batch=8, augment=True), **{lever: share})
    learnt = [Row("congratulations, a guaranteed prize is waiting for you", "spam"), Row("dinner later", "ham")] * 50
    tokenizer: Any = Listening()

    steps = Epochs(fit, learnt, (), ("ham", "spam"), tokenizer, 0)[0]

    assert sum(map(len, steps)) == len(learnt)
    assert least <= sum(map(is_seen, tokenizer.heard)) <= most


def test_what_a_model_has_met_in_training_is_what_its_recipe_draws_from() -> None:
    plain, nano = recipe.load(RECIPES / "seed.toml"), recipe.load(RECIPES / "nano.toml")

    assert shown(plain) == []
    assert shown(nano) == ["spaced", "dotted", "leet", "good-words", "misspelt", "punctuated"]
    assert "cased" in shown(recipe.load(RECIPES / "gemma.toml"))


def test_a_base_learns_the_disguises_that_the_recipe_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    def encode(_: object, texts: list[str], *__: object) -> None:
        heard.extend(texts)
        raise KeyboardInterrupt

    monkeypatch.setattr(batches, "encode", encode)
    chosen = msgspec.structs.replace(TOY, fit=msgspec.structs.replace(TOY.fit, punctuated=0.9))

    with pytest.raises(KeyboardInterrupt):
        train.fit(chosen, rows(120, 1), tmp_path, seed=3, progress=quiet)

    assert sum(map(has_strewn_marks, heard)) > 60
