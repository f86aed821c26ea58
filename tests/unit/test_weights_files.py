"""Of a base's folder those files are read that transformers reads, and no others."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForSequenceClassification

from tests.bundles import NANO
from training.bundle import export
from training.fit import model
from training.fit.model import ModelError
from worker.engine import UnsupportedModelError, files, weights
from worker.model.bundle import Base

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def llama(seed: int) -> LlamaForSequenceClassification:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_labels": 2, "pad_token_id": 0}
    return LlamaForSequenceClassification(LlamaConfig(**sizes, **heads, max_position_embeddings=64)).eval()


def whole(folder: Path, seed: int = 5) -> Path:
    llama(seed).save_pretrained(folder)
    return folder


def sharded(folder: Path, seed: int = 5) -> Path:
    llama(seed).save_pretrained(folder, max_shard_size="20KB")
    return folder


def stale_shard(folder: Path) -> None:
    """A shard of another training, left from a save into more files."""
    save_file(dict(llama(6).state_dict()), folder / "model-00009-of-00009.safetensors", metadata={"format": "pt"})


def stale_shards_and_index(folder: Path) -> None:
    """A whole file wins over an index beside it."""
    for file in sharded(folder.with_name("old"), 6).glob("model*"):
        shutil.copy(file, folder)


def a_copy(folder: Path) -> None:
    save_file(dict(llama(6).state_dict()), folder / "z-backup.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("make", "litter"),
    [(whole, stale_shard), (whole, stale_shards_and_index), (whole, a_copy), (sharded, stale_shard), (sharded, a_copy)],
)
def test_what_lies_beside_the_weights_is_not_read(
    make: Callable[[Path], Path], litter: Callable[[Path], None], tmp_path: Path
) -> None:
    base = make(tmp_path / "base")
    digest = files.digest(base)
    litter(base)
    theirs = LlamaForSequenceClassification.from_pretrained(base).state_dict()

    ours = weights.read(base)

    torch.testing.assert_close(ours.embedding, theirs["model.embed_tokens.weight"])
    torch.testing.assert_close(ours.layers[1].down, theirs["model.layers.1.mlp.down_proj.weight"])
    torch.testing.assert_close(ours.score, theirs["score.weight"])
    assert files.digest(base) == digest


def mapped(folder: Path, **changes: Any) -> None:
    index = folder / files.INDEX
    read = json.loads(index.read_text())
    read["weight_map"] |= changes
    index.write_text(json.dumps(read))


def without_index(folder: Path) -> None:
    (folder / files.INDEX).unlink()


def without_a_shard(folder: Path) -> None:
    files.weights(folder)[0].unlink()


def with_a_tensor_twice(folder: Path) -> None:
    first, second = files.weights(folder)[:2]
    save_file(load_file(first) | load_file(second), first, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (without_index, r"no safetensors file in it that transformers reads"),
        (lambda at: (at / files.INDEX).write_text("{}"), r"index\.json: no weight_map"),
        (lambda at: mapped(at, norm="../other.safetensors"), r"names '\.\./other\.safetensors'"),
        (lambda at: mapped(at, norm=3), r"names 3"),
        (lambda at: mapped(at, **{"model.layers.7.weight": "model-00001-of-00009.safetensors"}), r"00001-of-00009"),
        (without_a_shard, r"safetensors"),
        (with_a_tensor_twice, r"is in two files"),
    ],
    ids=range(7),
)
def test_an_index_that_does_not_fit_its_files_is_refused_by_name(
    damage: Callable[[Path], None], named: str, tmp_path: Path
) -> None:
    base = sharded(tmp_path / "base")
    damage(base)

    with pytest.raises(UnsupportedModelError, match=named):
        weights.read(base)
    with pytest.raises(UnsupportedModelError, match=named):
        files.digest(base)


def test_a_bundle_carries_the_weights_that_were_read_and_nothing_that_lay_beside_them(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(NANO / "base", base)
    shutil.copytree(NANO / "tokenizer", base, dirs_exist_ok=True)
    tensors = load_file(base / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, base / "model-00001-of-00001.safetensors")
    origin = export.Origin("brought", {"quantisation": "nf4", "double_quantisation": True}, "", Base(str(base)))

    bundle = export.import_adapter(NANO / "adapter", origin, tmp_path / "brought")

    assert sorted(path.name for path in (bundle.folder / "base").iterdir()) == ["config.json", "model.safetensors"]
    assert files.digest(bundle.folder / "base") == files.digest(NANO / "base")


def test_a_folder_that_holds_an_adapter_too_is_refused_for_transformers_would_read_the_adapters_base(
    tmp_path: Path,
) -> None:
    base = whole(tmp_path / "base")
    shutil.copy(NANO / "adapter" / "adapter_config.json", base)

    with pytest.raises(ModelError, match=r"adapter_config\.json, and .* the base that this names"):
        model.configured(base, None, ("ham", "spam"), pad_token_id=None)
