"""An imported head's labels are read from id2label, and put in a bundle's order: ham first."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import peft
import pytest
import torch

from tests.bundles import NANO, forget_labels
from tests.unit.test_training_adapters import BOTH, KIN, PLAIN, TEXTS, bare, base, trained
from training.__main__ import main
from training.bundle import export, heads
from training.bundle.adapters import AdapterError
from worker.model.bundle import Base
from worker.model.classifier import Classifier

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from worker.model.bundle import Bundle

__all__ = ("base",)


def said(folder: Path, **named: Any) -> None:
    """A config.json that names the head's labels, as transformers writes it."""
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | named))


def spam_first(folder: Path) -> None:
    said(folder, id2label={"0": "SPAM", "1": "HAM"}, label2id={"SPAM": 0, "HAM": 1})


@pytest.fixture
def inverted(base: Path, tmp_path: Path) -> Path:
    """A base whose config.json says that its head has spam first."""
    spam_first(shutil.copytree(base, tmp_path / "inverted"))
    return tmp_path / "inverted"


def brought(base: Path, adapter: Path, out: Path, labels: tuple[str, ...] = (), **how: Any) -> Bundle:
    origin = export.Origin("brought", {"quantisation": "none"}, "", Base(str(base)), labels, 64)
    return export.import_adapter(adapter, origin, out, **how)


def answers(bundle: Bundle, tuned: Any) -> tuple[Any, Any]:
    """The bundle's logits, and the adapter's as PEFT gives them, in its own order."""
    classifier = Classifier.load(bundle.folder, "cpu")
    tokens = [list(message.tokens) for message in classifier.prepare(TEXTS)]
    with torch.inference_mode():
        wanted = torch.cat([tuned(input_ids=torch.tensor([row])).logits for row in tokens]).numpy()
    return classifier.engine.logits(tokens), wanted


@pytest.mark.parametrize("config", [peft.LoraConfig(**PLAIN), KIN["ia3"]], ids=["kept", "merged"])
def test_a_head_that_has_spam_first_is_put_in_order_by_its_names(
    config: peft.PeftConfig, inverted: Path, tmp_path: Path
) -> None:
    tuned = trained(inverted, config, tmp_path / "adapter")

    bundle = brought(inverted, tmp_path / "adapter", tmp_path / "brought")

    found, wanted = answers(bundle, tuned)
    assert bundle.labels == ("ham", "spam")
    np.testing.assert_allclose(found, wanted[:, ::-1], atol=1e-4)
    assert json.loads((bundle.folder / "base/config.json").read_text())["id2label"] == {"0": "ham", "1": "spam"}
    assert bundle.recipe["head"] == ["spam", "ham"]


def test_a_config_beside_the_adapter_says_more_of_its_head_than_the_bases(base: Path, tmp_path: Path) -> None:
    tuned = trained(base, peft.LoraConfig(**PLAIN), tmp_path / "adapter")
    shutil.copy(base / "config.json", tmp_path / "adapter")
    spam_first(tmp_path / "adapter")

    found, wanted = answers(brought(base, tmp_path / "adapter", tmp_path / "brought", ("ham", "spam")), tuned)

    np.testing.assert_allclose(found, wanted[:, ::-1], atol=1e-4)


def test_the_bases_own_head_is_put_in_order_too_where_the_adapter_brings_none(inverted: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = bare(inverted)
        whole.save_pretrained(inverted)  # with its head
    spam_first(inverted)
    tuned = peft.get_peft_model(whole, peft.LoraConfig(r=4, target_modules=BOTH))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    tuned.peft_config["default"].task_type = "SEQ_CLS"
    tuned.save_pretrained(tmp_path / "adapter")

    found, wanted = answers(brought(inverted, tmp_path / "adapter", tmp_path / "brought"), tuned)

    np.testing.assert_allclose(found, wanted[:, ::-1], atol=1e-4)


def test_where_nothing_names_the_labels_a_spam_first_order_can_be_given(base: Path, tmp_path: Path) -> None:
    tuned = trained(base, peft.LoraConfig(**PLAIN), tmp_path / "adapter")

    bundle = brought(base, tmp_path / "adapter", tmp_path / "brought", ("spam", "ham"))

    found, wanted = answers(bundle, tuned)
    assert bundle.labels == ("ham", "spam")
    np.testing.assert_allclose(found, wanted[:, ::-1], atol=1e-4)


@pytest.mark.parametrize(
    ("labels", "renamed", "named"),
    [
        ((), {}, r"labels are phish, legit: .* --map legit=ham,phish="),
        (("ham", "spam"), {}, r"labels are phish, legit, not ham, spam: .* --map legit=ham"),
        (("ham", "smishing"), {"phish": "spam", "legit": "ham"}, r"labels are spam, ham, not ham, smishing"),
    ],
)
def test_names_that_are_not_ours_are_refused_until_they_are_mapped(
    labels: tuple[str, ...], renamed: Mapping[str, str], named: str, base: Path, tmp_path: Path
) -> None:
    trained(base, peft.LoraConfig(**PLAIN), tmp_path / "adapter")
    shutil.copy(base / "config.json", tmp_path / "adapter")
    said(tmp_path / "adapter", id2label={"0": "phish", "1": "legit"})

    with pytest.raises(AdapterError, match=named):
        brought(base, tmp_path / "adapter", tmp_path / "brought", labels, renamed=renamed)

    given = {"phish": "spam", "legit": "ham"}
    assert brought(base, tmp_path / "adapter", tmp_path / "brought", renamed=given).labels == ("ham", "spam")


def test_a_command_warns_of_canaries_that_a_head_misses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(NANO / "base", tmp_path / "base")
    shutil.copytree(NANO / "tokenizer", tmp_path / "base", dirs_exist_ok=True)
    forget_labels(tmp_path / "base")
    command = ["import", str(NANO / "adapter"), str(tmp_path / "out"), "--base", str(tmp_path / "base")]

    assert main([*command, "--labels", "spam,ham"]) == 0

    assert re.search(r"WARNING: [34] of 4 canaries are judged wrongly", capsys.readouterr().out)


GENERIC = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}


def read_from(folder: Path, **named: Any) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The labels and rows of a head of two whose adapter has such a config.json."""
    (folder / "config.json").write_text(json.dumps(named))
    head = heads.read(folder, folder / "no-base", 2, (), {})
    return head.labels, head.rows


def test_names_that_only_label2id_has_are_read_from_it(tmp_path: Path) -> None:
    inverted = {"spam": 0, "ham": 1}

    assert read_from(tmp_path, label2id=inverted) == (("ham", "spam"), (1, 0))
    assert read_from(tmp_path, **GENERIC | {"label2id": inverted}) == (("ham", "spam"), (1, 0))
    assert read_from(tmp_path, **GENERIC | {"id2label": {"0": "spam", "1": "ham"}}) == (("ham", "spam"), (1, 0))


@pytest.mark.parametrize(
    ("named", "complaint"),
    [
        ({"id2label": {"0": "ham", "1": "spam"}, "label2id": {"spam": 0, "ham": 1}}, "id2label and label2id disagree"),
        ({"id2label": {"0": "ham", "2": "spam"}}, "id2label is not by number, from 0 on"),
        ({"id2label": {"1": "ham", "2": "spam"}}, "id2label is not by number, from 0 on"),
        ({"id2label": {"-1": "ham", "0": "spam"}}, "id2label is not by number, from 0 on"),
        ({"id2label": {"0": "ham", "00": "spam"}}, "id2label is not by number, from 0 on"),
        ({"label2id": {"ham": 1, "spam": 1}}, "label2id is not by number, from 0 on"),
        ({"label2id": {"ham": None, "spam": 1}}, "label2id is not by number, from 0 on"),
    ],
)
def test_names_whose_order_cannot_be_told_are_refused(named: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=complaint):
        read_from(tmp_path, **named)
