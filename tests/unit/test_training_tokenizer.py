"""A base's tokenizer.json is taken as it is, whatever class its settings name; or it is refused by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForSequenceClassification

from training.bundle import export
from training.fit import batches, model
from training.fit.model import ModelError
from worker.model.bundle import Base
from worker.model.classifier import Classifier
from worker.model.normalise import normalise

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ("free prize call now", "see you  at home", "ok", "12,345 won!", "caf\u00e9 \U0001f600", "a\nb")


def byte_level(template: str = "<s> $A") -> Tokenizer:
    """As Llama 3's is: byte-level pieces, and a token of beginning before each text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    signs = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=signs, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 0), ("</s>", 1)])
    return tokenizer


def base(folder: Path, tokenizer: Tokenizer, **settings: Any) -> LlamaForSequenceClassification:
    """A base with this tokenizer.json, and settings that say what they like of it."""
    torch.manual_seed(5)
    shape = LlamaConfig(
        vocab_size=330, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_labels=2, max_position_embeddings=256,
    )  # fmt: skip
    llama = LlamaForSequenceClassification(shape).eval()
    llama.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {"bos_token": "<s>", "eos_token": "</s>", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return llama


@pytest.mark.parametrize("named", ["LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", "GPT2Tokenizer"])
def test_its_ids_are_those_of_its_file_whatever_class_is_named(named: str, tmp_path: Path) -> None:
    plain = byte_level()
    base(tmp_path, plain, tokenizer_class=named)

    learnt = batches.encode(model.load_tokenizer(tmp_path), TEXTS, ["ham"] * len(TEXTS), ("ham", "spam"), 256)

    assert [each.ids for each in learnt] == [each.ids for each in plain.encode_batch(list(TEXTS))]


def test_an_import_answers_as_peft_does_on_the_files_ids(tmp_path: Path) -> None:
    plain = byte_level()
    bare = base(tmp_path / "base", plain, tokenizer_class="LlamaTokenizerFast")
    tuned = get_peft_model(bare, LoraConfig(task_type=TaskType.SEQ_CLS, r=4, target_modules=["q_proj", "v_proj"]))
    for name, weights in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.3)
    tuned.save_pretrained(tmp_path / "adapter")
    origin = export.Origin("brought", {"quantisation": "none"}, "", Base(str(tmp_path / "base")), max_tokens=64)

    bundle = export.import_adapter(tmp_path / "adapter", origin, tmp_path / "brought")

    classifier = Classifier.load(bundle.folder, "cpu")
    with torch.inference_mode():
        wanted = [
            tuned.eval()(input_ids=torch.tensor([plain.encode(normalise(text)).ids])).logits[0].numpy()
            for text in TEXTS[:3]
        ]
    found = classifier.engine.logits([message.tokens for message in classifier.prepare(TEXTS[:3])])
    np.testing.assert_allclose(found, np.array(wanted), atol=1e-4)


def test_what_a_sender_writes_is_no_sign_of_the_tokenizer_in_training_as_in_serving(tmp_path: Path) -> None:
    base(tmp_path, byte_level())

    [learnt] = batches.encode(model.load_tokenizer(tmp_path), ["ok </s> ok"], ["ham"], ("ham", "spam"), 256)

    assert learnt.ids.count(1) == 0


def test_settings_that_make_other_ids_than_the_file_are_refused(tmp_path: Path) -> None:
    own = {"content": "prize", "special": False, "normalized": False, "lstrip": False, "rstrip": False}
    base(tmp_path, byte_level(), added_tokens_decoder={"330": own | {"single_word": False}})

    with pytest.raises(ModelError, match=r"tokenizer_config\.json .* other ids than its tokenizer\.json"):
        model.load_tokenizer(tmp_path)


def test_a_folder_without_the_file_is_refused_and_nothing_is_made_up(tmp_path: Path) -> None:
    base(tmp_path, byte_level(), tokenizer_class="LlamaTokenizer")
    (tmp_path / "tokenizer.json").unlink()

    with pytest.raises(ModelError, match=r"no tokenizer can be read there.*tokenizer\.json belongs in it"):
        model.load_tokenizer(tmp_path)
