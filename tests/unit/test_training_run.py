"""The whole way on a toy: a base made, seen through NF4, LoRA and a head trained, exported, loaded, judged."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForSequenceClassification

from tests.toy_recipe import TOY, quiet
from training.bundle import calibrate, export
from training.bundle.adapters import AdapterError
from training.bundle.export import ExportError
from training.data import disguises
from training.data import split as data
from training.data.split import Row
from training.fit import batches, hub, model, pretrain, recipe, runs, train
from training.fit.model import ModelError
from training.fit.runs import Run, RunError
from training.judge import evaluate
from worker.model.bundle import Bands, Base, BundleError, load
from worker.model.classifier import Classifier
from worker.model.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

HAM = ("see you at home", "ok call me later mum", "lunch today at noon", "bring the charger please", "good night love")
SPAM = ("free prize call now", "win cash claim today", "urgent reply to win", "winner claim your free tone")


def rows(count: int, seed: int) -> list[Row]:
    dice = random.Random(seed)

    def message(index: int) -> Row:
        label, phrases = ("spam", SPAM) if index % 3 == 0 else ("ham", HAM)
        return Row(f"{dice.choice(phrases)} {dice.choice(phrases)} {dice.randrange(100)}", label, index)

    return [message(index) for index in range(count)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train.fit(TOY, rows(120, 1), folder, seed=3, progress=quiet)
    return folder


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_becomes_a_bundle_that_the_worker_loads_and_that_knows_its_rows(run: Path, tmp_path: Path) -> None:
    bundle = export.export(run, rows(60, 2), "digest", tmp_path / "toy")

    judged = evaluate.judge(Classifier.load(bundle.folder), rows(60, 4))

    assert judged.measure()["f1"] > 0.9
    assert load(tmp_path / "toy").data_digest == "digest"
    assert bundle.recipe["quantisation"] == "nf4"
    assert {canary.label for canary in bundle.canaries} <= {"ham", "spam"}
    assert same(load_file(bundle.adapter / "adapter_model.safetensors"), adapter(run))


def test_a_bundles_threshold_is_chosen_on_ham_in_every_disguise_thrown_otherwise_than_in_any_exam(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[list[NDArray[np.float64]]] = []
    thrown: list[str] = []

    def threshold(_: NDArray[np.float64], ham: list[NDArray[np.float64]]) -> float:
        chosen.append(ham)
        return 0.125

    def disguised(name: str, texts: Sequence[str], seed: str) -> list[str]:
        thrown.append(seed)
        return disguises.disguise(name, texts, seed)

    monkeypatch.setattr(calibrate, "threshold", threshold)
    monkeypatch.setattr(export, "disguise", disguised)
    monkeypatch.setattr(calibrate, "bands", lambda *_: Bands(0.1, 0.2))  # which would move it

    bundle = export.export(run, rows(60, 2), "digest", tmp_path / "toy")

    plain, *hidden = chosen[0]
    assert bundle.threshold == 0.125
    assert len(hidden) == len(disguises.DISGUISES)
    assert {len(each) for each in chosen[0]} == {sum(row.label == "ham" for row in rows(60, 2))}
    assert any(not np.array_equal(each, plain) for each in hidden)
    assert not any(seed.isdigit() for seed in thrown)


def test_a_bundle_has_bands_that_hold_for_each_source_and_says_what_it_covers(run: Path, tmp_path: Path) -> None:
    sources = [
        dataclasses.replace(row, source="chat" if at % 2 else "notices", kind="made-up")
        for at, row in enumerate(rows(120, 2))
    ]

    bundle = export.export(run, sources, "digest", tmp_path / "toy")

    assert bundle.bands is not None
    assert 0 < bundle.bands.flag_from <= bundle.threshold <= bundle.bands.block_from < bundle.highest_score
    judge = Classifier.load(bundle.folder, "cpu")
    for source in ("chat", "notices"):
        lawful = [row.text for row in sources if row.label == "ham" and row.source == source]
        scores = judge.judge(judge.prepare(lawful)).score
        assert (scores >= bundle.bands.flag_from).mean() <= bundle.quality["lawful-flagged"] + 1e-6
    assert bundle.coverage is not None
    assert bundle.coverage.scripts == ("LATIN",)
    assert bundle.coverage.kinds == ("made-up",)
    flags = [message.flags for message in judge.prepare([row.text for row in sources])]
    assert sum("outside" in each for each in flags) <= 0.01 * len(flags)


def test_figures_can_be_added_to_a_bundle_without_changing_its_model(run: Path, tmp_path: Path) -> None:
    made = export.export(run, rows(60, 2), "digest", tmp_path / "made")

    shipped = export.with_quality(made, {"f1": 0.5}, tmp_path / "shipped")

    assert shipped.quality == {"f1": 0.5}
    assert shipped.files == made.files


class StoppedError(Exception):
    """Someone pulled the plug."""


@pytest.mark.long
def test_an_interrupted_run_goes_on_where_it_stopped_and_ends_the_same(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_SAVE_EVERY", 2)

    def stop(phase: str, step: int, _steps: int, _loss: float, _tokens: int) -> None:
        if phase.startswith("adapter") and step == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        train.fit(TOY, rows(120, 1), tmp_path, seed=3, progress=stop)
    seen: list[int] = []
    train.fit(TOY, rows(120, 1), tmp_path, seed=3, progress=lambda _phase, step, *_: seen.append(step))

    assert seen[0] == 5
    assert same(adapter(tmp_path), adapter(run))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter",
        "base",
        "recipe.json",
        "tokenizer",
        "training.json",
    ]


def test_an_adapter_that_guesses_states_is_an_ordinary_one(run: Path, tmp_path: Path) -> None:
    guessing = msgspec.structs.replace(TOY, fit=msgspec.structs.replace(TOY.fit, states=1.0))
    states = {"ham": bytes([64, 192]), "spam": bytes([192, 64])}
    seen = [dataclasses.replace(row, state=states[row.label]) for row in rows(120, 1)]

    train.fit(guessing, seen, tmp_path / "guessing", seed=3, progress=quiet)
    train.fit(guessing, rows(120, 1), tmp_path / "without", seed=3, progress=quiet)

    assert adapter(tmp_path / "guessing").keys() == adapter(run).keys()
    assert not same(adapter(tmp_path / "guessing"), adapter(run))
    assert same(adapter(tmp_path / "without"), adapter(run))
    export.export(tmp_path / "guessing", rows(60, 2), "digest", tmp_path / "toy")


@pytest.mark.long
def test_an_interrupted_base_goes_on_with_the_next_epoch_and_ends_the_same(run: Path, tmp_path: Path) -> None:
    def stop(_phase: str, step: int, _steps: int, _loss: float, _tokens: int) -> None:
        if step == 10:  # in the second of three epochs of eight
            raise StoppedError

    with pytest.raises(StoppedError):
        train.fit(TOY, rows(120, 1), tmp_path, seed=3, progress=stop)
    assert not (tmp_path / "base").exists()
    seen: list[int] = []
    train.fit(TOY, rows(120, 1), tmp_path, seed=3, progress=lambda *step: seen.append(step[1]))

    assert seen[0] == 9
    assert same(load_file(tmp_path / "base" / "model.safetensors"), load_file(run / "base" / "model.safetensors"))


def test_a_folder_of_another_run_is_refused(run: Path) -> None:
    another = msgspec.structs.replace(TOY, name="another")
    with pytest.raises(RunError, match="a run of another seed; name"):
        train.fit(TOY, rows(120, 1), run, seed=4, progress=quiet)
    with pytest.raises(RunError, match="a run of another recipe and other rows; name"):
        train.fit(another, rows(120, 2), run, seed=3, progress=quiet)


def test_a_run_knows_its_labels_and_their_order_and_a_bundle_takes_both_from_it(run: Path, tmp_path: Path) -> None:
    assert runs.read(run).labels == ("ham", "spam")
    with pytest.raises(RunError, match="a run of another labels; name"):
        train.fit(TOY, rows(120, 1), run, seed=3, progress=quiet, labels=("ham", "smishing", "spam"))

    bundle = export.export(run, rows(60, 2), "digest", tmp_path / "toy")

    assert bundle.labels == ("ham", "spam")
    config = json.loads((bundle.folder / "base" / "config.json").read_text())
    assert (config["id2label"], config["label2id"]) == ({"0": "ham", "1": "spam"}, {"ham": 0, "spam": 1})


def test_rows_of_a_label_that_the_run_does_not_know_are_not_calibrated_on(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"trained on the labels ham, spam, not on smishing"):
        export.export(run, [*rows(60, 2), Row("tell us your pin", "smishing")], "digest", tmp_path / "toy")


def test_a_run_of_before_that_does_not_know_its_labels_is_exported_where_they_are_certain(
    run: Path, tmp_path: Path
) -> None:
    old = shutil.copytree(run, tmp_path / "old")
    kept = json.loads((old / runs.FILE).read_text())
    del kept["labels"]
    (old / runs.FILE).write_text(json.dumps(kept))

    assert export.export(old, rows(60, 2), "digest", tmp_path / "toy").labels == ("ham", "spam")
    with pytest.raises(ExportError, match=r'does not say its labels.*write them there as "labels"'):
        export.export(old, [*rows(60, 2), Row("tell us your pin", "smishing")], "digest", tmp_path / "toy")


def test_a_folder_of_something_else_is_not_trained_in(tmp_path: Path) -> None:
    (tmp_path / "making").mkdir()

    with pytest.raises(RunError, match="holds 'making' and no run"):
        train.fit(TOY, rows(120, 1), tmp_path, seed=3, progress=quiet)

    assert [path.name for path in tmp_path.iterdir()] == ["making"]


@pytest.mark.parametrize(
    ("poor", "named"),
    [
        pytest.param([row for row in rows(120, 1) if row.label == "ham"], "spam: 0 messages", id="no-spam"),
        pytest.param(rows(30, 1), "spam: 10 messages", id="too-little-spam"),
    ],
)
def test_rows_that_nothing_can_be_learnt_from_are_refused(poor: Sequence[Row], named: str, tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=named):
        train.fit(TOY, poor, tmp_path, seed=0, progress=quiet)


def test_a_run_that_has_not_ended_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run in it"):
        export.export(tmp_path, rows(60, 2), "digest", tmp_path / "toy")
    runs.begin(tmp_path, Run(TOY, 3, "digest"))
    with pytest.raises(ExportError, match="has its training ended"):
        export.export(tmp_path, rows(60, 2), "digest", tmp_path / "toy")


def test_a_bundle_does_not_take_the_place_of_the_run_it_is_made_of(run: Path) -> None:
    for out in (run, run.parent, run / "base"):
        with pytest.raises((ExportError, BundleError), match="would"):
            export.export(run, rows(60, 2), "digest", out)

    assert {"adapter", "base", "tokenizer"} <= {path.name for path in run.iterdir()}


@pytest.fixture
def saved_by_peft(tmp_path: Path) -> tuple[Path, Path]:
    """A base and an adapter for it, as transformers and PEFT save them, with a tokenizer beside the base."""
    torch.manual_seed(0)
    tokenizer = pretrain.make_tokenizer([row.text for row in rows(50, 0)], 400)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_labels": 3, "pad_token_id": 0}
    model = LlamaForSequenceClassification(LlamaConfig(**sizes, **heads, max_position_embeddings=256))
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    tuned = get_peft_model(model, lora)
    for name, weights in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.3)
    tuned.save_pretrained(tmp_path / "adapter")
    return tmp_path / "base", tmp_path / "adapter"


def test_an_adapter_saved_by_peft_is_brought_in_tensor_for_tensor_and_judges_alike(
    saved_by_peft: tuple[Path, Path], tmp_path: Path
) -> None:
    base, saved = saved_by_peft
    labels = ("ham", "spam", "smishing")
    origin = export.Origin("brought", {"quantisation": "none"}, "", Base(str(base)), labels, 64)

    bundle = export.import_adapter(saved, origin, tmp_path / "brought")

    name = "adapter_model.safetensors"
    assert (bundle.adapter / name).read_bytes() == (saved / name).read_bytes()
    assert (bundle.labels, bundle.base.id, bundle.threshold) == (labels, "base", 0.5)
    classifier = Classifier.load(bundle.folder)
    scores = classifier.judge(classifier.prepare([row.text for row in rows(20, 7)]))
    assert scores.scored.all()
    assert np.ptp(scores.score) > 0


@pytest.fixture
def without_begin(saved_by_peft: tuple[Path, Path]) -> Path:
    """The base with a tokenizer that adds no sign, and has no piece at all for what it does not know."""
    base, _ = saved_by_peft
    path = base / "tokenizer.json"
    plain = json.loads(path.read_text())
    plain["post_processor"] = plain["pre_tokenizer"] = None
    plain["model"] |= {"unk_token": None, "byte_fallback": False}
    path.write_text(json.dumps(plain))
    return base


@pytest.mark.parametrize("augment", [False, True])
def test_a_text_without_tokens_ends_no_run_and_teaches_nothing(
    without_begin: Path, tmp_path: Path, *, augment: bool
) -> None:
    fit = msgspec.structs.replace(TOY.fit, epochs=1, augment=augment)
    asked = msgspec.structs.replace(TOY, pretraining=None, base=recipe.RecipeBase(str(without_begin)), fit=fit,
                                    quantisation="none", double_quantisation=False)  # fmt: skip
    odd = [Row("\u200b", "spam"), Row("ॐ", "ham")]
    tokenizer = model.load_tokenizer(without_begin)
    assert [len(ids) for ids in tokenizer([normalise(row.text) for row in odd])["input_ids"]] == [0, 0]

    labels = ("ham", "spam", "smishing")
    train.fit(asked, [*rows(60, 1), *odd], tmp_path / "run", seed=0, progress=quiet, labels=labels)
    bundle = export.export(tmp_path / "run", [*rows(60, 2), *odd], "digest", tmp_path / "bundle")

    assert bundle.calibration is not None
    made = batches.encode(tokenizer, ["\u200b"], labels, ["spam"], 16)
    assert made[0].targets == (batches.IGNORED, batches.NOT_TAUGHT)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def on_hub(saved_by_peft: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The base under an id, in a hub's cache as huggingface_hub keeps it, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / "models--somebody--toy"
    (repository / "snapshots").mkdir(parents=True)
    saved_by_peft[0].rename(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return "somebody/toy"


def test_a_base_on_a_hub_is_pinned_to_the_commit_that_training_took(on_hub: str, tmp_path: Path) -> None:
    fit = msgspec.structs.replace(TOY.fit, epochs=1)
    asked = msgspec.structs.replace(
        TOY, pretraining=None, base=recipe.RecipeBase(on_hub), fit=fit, quantisation="none", double_quantisation=False
    )
    labels = ("ham", "spam", "smishing")
    train.fit(asked, rows(60, 1), tmp_path / "run", seed=0, progress=quiet, labels=labels)
    (tmp_path / "hub" / "models--somebody--toy" / "refs" / "main").write_text("f" * 40)  # the id's main moves on

    bundle = export.export(tmp_path / "run", rows(60, 2), "digest", tmp_path / "bundle")

    assert bundle.labels == labels
    assert runs.read(tmp_path / "run").revision == COMMIT
    assert bundle.base == Base(on_hub, COMMIT)
    assert bundle.recipe["base"] == {"id": on_hub, "revision": COMMIT}
    (tmp_path / "run" / "recipe.json").write_bytes(msgspec.json.encode(Run(asked, 0, "digest")))
    with pytest.raises(ExportError, match="no revision, so nobody can know which weights of somebody/toy"):
        export.export(tmp_path / "run", rows(60, 2), "digest", tmp_path / "bundle")


def test_an_import_pins_the_base_of_its_adapter(on_hub: str, saved_by_peft: tuple[Path, Path], tmp_path: Path) -> None:
    origin = export.Origin("brought", {"quantisation": "none"}, "", Base(on_hub), ("ham", "spam", "smishing"), 64)

    bundle = export.import_adapter(saved_by_peft[1], origin, tmp_path / "brought")

    assert bundle.base == Base(on_hub, COMMIT)


def test_a_base_that_neither_a_folder_nor_the_hub_has_is_refused_by_name(on_hub: str) -> None:
    for base, revision in (("nobody/nothing", None), (on_hub, "nosuch"), ("./no such folder", None)):
        with pytest.raises(ModelError, match=f"{base}.*: no such folder, and it could not be read from the hub"):
            hub.commit(base, revision)


def test_an_import_does_not_take_the_place_of_its_adapter_or_base(saved_by_peft: tuple[Path, Path]) -> None:
    base, saved = saved_by_peft
    origin = export.Origin("brought", {}, "", Base(str(base)), ("ham", "spam", "smishing"))

    for out, source in ((saved, saved), (base, base), (saved.parent, saved)):
        with pytest.raises(ExportError, match=f"would take the place of {source}"):
            export.import_adapter(saved, origin, out)

    assert (saved / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        pytest.param(lambda folder: (folder / "adapter_config.json").unlink(), "no adapter_config", id="no-config"),
        pytest.param(
            lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"),
            "a pickle, which is never loaded",
            id="pickle",
        ),
        pytest.param(
            lambda folder: (folder / "adapter_config.json").write_text("{"), r"config\.json: not JSON", id="not-json"
        ),
        pytest.param(
            lambda folder: os.truncate(folder / "adapter_model.safetensors", 100),
            "not whole safetensors",
            id="cut-short",
        ),
        pytest.param(lambda folder: change(folder, task_type="CAUSAL_LM"), "task_type is 'CAUSAL_LM'", id="task"),
        pytest.param(lambda folder: change(folder, peft_type="NEWER"), "peft_type is 'NEWER'", id="kind"),
        pytest.param(lambda folder: (folder / "adapter_config.json").write_text("[]"), "not a JSON object", id="list"),
    ],
)
def test_an_adapter_that_cannot_be_served_is_refused_by_name(
    saved_by_peft: tuple[Path, Path], tmp_path: Path, spoil: object, named: str
) -> None:
    base, saved = saved_by_peft
    spoil(saved)  # type: ignore[operator]
    origin = export.Origin("brought", {}, "", Base(str(base)), ("ham", "spam", "smishing"))

    with pytest.raises(AdapterError, match=named):
        export.import_adapter(saved, origin, tmp_path / "brought")


def test_a_head_of_other_labels_is_refused(saved_by_peft: tuple[Path, Path], tmp_path: Path) -> None:
    base, saved = saved_by_peft

    with pytest.raises(AdapterError, match="the head has 3 labels, 2 are named"):
        export.import_adapter(saved, export.Origin("brought", {}, "", Base(str(base))), tmp_path / "brought")


def change(folder: Path, **fields: str) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
