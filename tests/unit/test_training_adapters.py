"""Whatever PEFT trains for sequence classification is imported, and answers as PEFT does; what cannot be is named."""

from __future__ import annotations

import json
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForSequenceClassification

from tests.bundles import NANO
from training.bundle import adapters, export
from training.bundle.adapters import AdapterError
from worker.engine import nf4
from worker.model.bundle import Base, load
from worker.model.classifier import Classifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from worker.model.bundle import Bundle

TEXTS = ("free prize call now", "see you at home", "ok")
BOTH = ["q_proj", "v_proj"]
PLAIN = {"r": 4, "lora_alpha": 12, "target_modules": BOTH}
KIN: dict[str, peft.PeftConfig] = {
    "adalora": peft.AdaLoraConfig(init_r=4, target_r=4, total_step=10, target_modules=BOTH),
    "ia3": peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "loha": peft.LoHaConfig(r=4, target_modules=BOTH),
    "lokr": peft.LoKrConfig(r=4, target_modules=BOTH),
    "oft": peft.OFTConfig(r=4, oft_block_size=0, target_modules=BOTH),
    "boft": peft.BOFTConfig(boft_block_size=4, target_modules=BOTH),
    "hra": peft.HRAConfig(r=4, target_modules=BOTH),
    "vera": peft.VeraConfig(r=4, target_modules=BOTH),
    "fourierft": peft.FourierFTConfig(n_frequency=64, target_modules=BOTH),
    "norms": peft.LNTuningConfig(),
    "lora, embedding": peft.LoraConfig(**{**PLAIN, "target_modules": ["q_proj", "embed_tokens"]}),
    "lora, tokens": peft.LoraConfig(**PLAIN, trainable_token_indices=[3, 5]),
    "lora, norm saved": peft.LoraConfig(**PLAIN, modules_to_save=["score", "norm"]),
    "pissa": peft.LoraConfig(**PLAIN, init_lora_weights="pissa"),
    "olora": peft.LoraConfig(**PLAIN, init_lora_weights="olora"),
}
AS_IT_IS: dict[str, peft.PeftConfig] = {
    "rslora": peft.LoraConfig(**PLAIN, use_rslora=True),
    "dora": peft.LoraConfig(**PLAIN, use_dora=True),
    "ranks": peft.LoraConfig(**PLAIN, rank_pattern={"q_proj": 2}, alpha_pattern={"layers.1.*v_proj": 3}),
    "bias": peft.LoraConfig(**PLAIN, bias="all"),
    "fan_in_fan_out": peft.LoraConfig(**PLAIN, fan_in_fan_out=True),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama without a head, in bfloat16, with the tokenizer of nano."""
    folder = tmp_path_factory.mktemp("base")
    shutil.copytree(NANO / "tokenizer", folder, dirs_exist_ok=True)
    vocabulary = json.loads((NANO / "base" / "config.json").read_text())["vocab_size"]
    torch.manual_seed(5)
    sizes = {"vocab_size": vocabulary, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    model = LlamaForSequenceClassification(LlamaConfig(**sizes, **heads, num_labels=2, pad_token_id=0))
    model.to(torch.bfloat16).save_pretrained(folder)
    file = folder / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if name != "score.weight"}, file)
    return folder


def bare(base: Path, *, quantised: bool = False) -> Any:
    model = LlamaForSequenceClassification.from_pretrained(base, num_labels=2, dtype=torch.float32).eval()
    for name, matrix in model.named_parameters():
        if quantised and name.endswith("proj.weight"):
            matrix.data = nf4.round_trip(matrix.data, double=True)
    return model


def trained(base: Path, config: peft.PeftConfig, into: Path, change: Callable[[Any], Any] = lambda model: model,
            *, quantised: bool = False) -> nn.Module:  # fmt: skip
    """A model under an adapter that is saved, all that learns away from where it began, as after training."""
    config.task_type = "SEQ_CLS"
    torch.manual_seed(6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = peft.get_peft_model(change(bare(base, quantised=quantised)), config).eval()
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.data.add_(torch.randn_like(parameter) * 0.1)
        tuned.save_pretrained(into)
    return tuned


def brought(base: Path, adapter: Path, out: Path, quantisation: str = "none") -> Bundle:
    recipe = {"quantisation": quantisation, "double_quantisation": quantisation == "nf4"}
    return export.import_adapter(adapter, export.Origin("brought", recipe, "", Base(str(base)), max_tokens=64), out)


def agree(bundle: Bundle, tuned: nn.Module) -> None:
    """The bundle's engine answers as PEFT does, which no other adapter would."""
    classifier = Classifier.load(bundle.folder)
    tokens = [list(message.tokens) for message in classifier.prepare(TEXTS)]
    with torch.inference_mode():
        wanted = torch.cat([tuned(input_ids=torch.tensor([row])).logits for row in tokens]).numpy()
    np.testing.assert_allclose(classifier.engine.logits(tokens), wanted, atol=1e-4)
    assert np.ptp(wanted, axis=0).min() > 1e-2


@pytest.mark.parametrize("name", KIN)
def test_an_adapter_of_another_kind_is_merged_and_answers_as_peft_does(name: str, base: Path, tmp_path: Path) -> None:
    tuned = trained(base, KIN[name], tmp_path / "adapter")

    bundle = brought(base, tmp_path / "adapter", tmp_path / "brought")

    agree(bundle, tuned)
    assert bundle.recipe["merged"]["kind"] == KIN[name].peft_type
    assert load(bundle.folder).base.path == "base"


@pytest.mark.parametrize("name", AS_IT_IS)
def test_lora_is_kept_as_it_is_whatever_its_ranks(name: str, base: Path, tmp_path: Path) -> None:
    tuned = trained(base, AS_IT_IS[name], tmp_path / "adapter")

    bundle = brought(base, tmp_path / "adapter", tmp_path / "brought")

    agree(bundle, tuned)
    kept = (bundle.adapter / adapters.WEIGHTS).read_bytes()
    assert kept == (tmp_path / "adapter" / adapters.WEIGHTS).read_bytes()
    assert "merged" not in bundle.recipe


def test_what_is_merged_is_merged_into_what_nf4_left_and_not_seen_through_it_again(base: Path, tmp_path: Path) -> None:
    tuned = trained(base, KIN["ia3"], tmp_path / "adapter", quantised=True)

    bundle = brought(base, tmp_path / "adapter", tmp_path / "brought", "nf4")

    agree(bundle, tuned)
    assert bundle.recipe["quantisation"] == "none"
    assert bundle.recipe["merged"]["quantisation"] == "nf4"


def test_what_an_adapter_leaves_alone_keeps_its_type(base: Path, tmp_path: Path) -> None:
    trained(base, KIN["ia3"], tmp_path / "adapter")

    tensors = load_file(brought(base, tmp_path / "adapter", tmp_path / "brought").folder / "base/model.safetensors")

    assert tensors["model.embed_tokens.weight"].dtype == torch.bfloat16
    assert tensors["model.layers.0.self_attn.k_proj.weight"].dtype == torch.float32


def test_tokens_that_training_added_come_with_the_adapter(base: Path, tmp_path: Path) -> None:
    def longer(model: Any) -> Any:
        model.resize_token_embeddings(model.config.vocab_size + 1, mean_resizing=False)
        return model

    tuned = trained(base, peft.LoraConfig(**PLAIN), tmp_path / "adapter", longer)
    shutil.copy(base / "config.json", tmp_path / "adapter")  # PEFT asks it whether the vocabulary has grown
    tuned.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)

    agree(brought(base, tmp_path / "adapter", tmp_path / "brought"), tuned)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (peft.PromptTuningConfig(num_virtual_tokens=4), "'PROMPT_TUNING', which leaves the weights as they are"),
        (peft.PrefixTuningConfig(num_virtual_tokens=4), "'PREFIX_TUNING', which leaves the weights as they are"),
        (peft.PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=8), "'P_TUNING', which leaves"),
        (peft.LoraConfig(**PLAIN, lora_bias=True), "cannot merge a LORA adapter like this .* base layer has no bias"),
        (peft.LoraConfig(**PLAIN, init_lora_weights="pissa_niter_2"), "init_lora_weights is 'pissa_niter_2'"),
        (peft.LoraConfig(**PLAIN, layer_replication=[[0, 2], [1, 2]]), "answers differently from it unmerged"),
    ],
)
def test_one_that_cannot_be_merged_is_refused_by_name(
    config: peft.PeftConfig, named: str, base: Path, tmp_path: Path
) -> None:
    trained(base, config, tmp_path / "adapter")

    with pytest.raises(AdapterError, match=named):
        brought(base, tmp_path / "adapter", tmp_path / "brought")

    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_pissa_before_nf4_is_refused_for_nobody_knows_what_nf4_saw(base: Path, tmp_path: Path) -> None:
    trained(base, KIN["pissa"], tmp_path / "adapter")

    with pytest.raises(AdapterError, match="before NF4 did"):
        brought(base, tmp_path / "adapter", tmp_path / "brought", "nf4")


def test_an_adapter_that_is_not_whole_is_refused_and_not_made_up(base: Path, tmp_path: Path) -> None:
    trained(base, KIN["ia3"], tmp_path / "adapter")
    file = tmp_path / "adapter" / adapters.WEIGHTS
    tensors = load_file(file)
    lost = next(name for name in tensors if "ia3" in name)
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, file)

    with pytest.raises(AdapterError, match="asks for is not in it"):
        brought(base, tmp_path / "adapter", tmp_path / "brought")
    save_file({**tensors, "base_model.model.strange": torch.ones(1)}, file)
    with pytest.raises(AdapterError, match="strange, which has no place"):
        brought(base, tmp_path / "adapter", tmp_path / "brought")
