"""An import reads its head where PEFT does under the adapter's own config, or is refused: nobody else checks it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import peft
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers, processors

from tests.unit.test_training_adapters import KIN, PLAIN, trained
from tests.unit.test_training_tokenizer import base, byte_level
from training.bundle import adapters, export
from training.bundle.adapters import AdapterError
from worker.model.bundle import Base
from worker.model.classifier import Classifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.model.bundle import Bundle

TEXTS = ("free prize call now", "see you at home", "ok")
_END = 1


def ended(template: str = "<s> $A </s>") -> Tokenizer:
    """It puts its sign of end behind each text."""
    return byte_level(template)


def in_sequence() -> Tokenizer:
    tokenizer = ended()
    inner = processors.Sequence([processors.ByteLevel(trim_offsets=False), tokenizer.post_processor])
    tokenizer.post_processor = inner
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def said(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def brought(folder: Path) -> Bundle:
    origin = export.Origin("brought", {"quantisation": "none"}, "", Base(str(folder / "base")), max_tokens=64)
    return export.import_adapter(folder / "adapter", origin, folder / "brought")


def differences(bundle: Bundle, tuned: Any, tokenizer: Tokenizer, pad: int | None) -> float:
    """The most that the worker's logits differ from PEFT's of the same texts under that pad."""
    tuned.config.pad_token_id = tuned.get_base_model().config.pad_token_id = pad
    classifier = Classifier.load(bundle.folder, "cpu")
    found = classifier.engine.logits([message.tokens for message in classifier.prepare(TEXTS)])
    with torch.inference_mode():
        wanted = torch.cat([tuned(input_ids=torch.tensor([tokenizer.encode(text).ids])).logits for text in TEXTS])
    return float(np.abs(found - wanted.numpy()).max())


@pytest.mark.parametrize("config", [peft.LoraConfig(**PLAIN), KIN["ia3"]], ids=["kept", "merged"])
@pytest.mark.parametrize("make", [ended, in_sequence])
def test_a_head_that_peft_reads_before_a_trailing_pad_is_read_there(
    make: Callable[[], Tokenizer], config: peft.PeftConfig, tmp_path: Path
) -> None:
    tokenizer = make()
    base(tmp_path / "base", tokenizer)
    said(tmp_path / "base", pad_token_id=_END)
    tuned = trained(tmp_path / "base", config, tmp_path / "adapter")

    bundle = brought(tmp_path)

    assert differences(bundle, tuned, tokenizer, _END) < 1e-4
    assert differences(bundle, tuned, tokenizer, 5) > 1e-2  # at the end itself


def test_a_trailing_end_that_is_not_the_pad_is_where_the_head_is_read(tmp_path: Path) -> None:
    tokenizer = ended()
    base(tmp_path / "base", tokenizer)
    said(tmp_path / "base", pad_token_id=5)
    tuned = trained(tmp_path / "base", peft.LoraConfig(**PLAIN), tmp_path / "adapter")

    assert differences(brought(tmp_path), tuned, tokenizer, 5) < 1e-4


def test_a_pad_that_the_adapter_brings_counts_more_than_the_bases(tmp_path: Path) -> None:
    tokenizer = ended()
    base(tmp_path / "base", tokenizer)
    said(tmp_path / "base", pad_token_id=5)
    tuned = trained(tmp_path / "base", peft.LoraConfig(**PLAIN), tmp_path / "adapter")
    shutil.copy(tmp_path / "base" / "config.json", tmp_path / "adapter")
    said(tmp_path / "adapter", pad_token_id=_END)

    assert differences(brought(tmp_path), tuned, tokenizer, _END) < 1e-4


def test_an_import_that_answers_otherwise_than_peft_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base(tmp_path / "base", byte_level())
    trained(tmp_path / "base", peft.LoraConfig(**PLAIN), tmp_path / "adapter")
    answers = adapters.answers
    monkeypatch.setattr(adapters, "answers", lambda *given, **how: answers(*given, **how) + 0.1)

    with pytest.raises(AdapterError, match=r"answers otherwise than PEFT .*logits differ by 0\.1"):
        brought(tmp_path)
    assert not (tmp_path / "brought").exists()
