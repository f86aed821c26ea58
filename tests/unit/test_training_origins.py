"""An adapter that says it was trained on another base, revision or quantisation than is given is warned of by name."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.bundles import NANO
from training.__main__ import main
from training.bundle import origins
from worker.model.bundle import Base

if TYPE_CHECKING:
    from pathlib import Path

COMMIT, OTHER = "0" * 40, "f" * 40
CARD = """
## Training procedure

The following `bitsandbytes` quantization config was used during training:
- quant_method: bitsandbytes
- load_in_8bit: {int8}
- load_in_4bit: {four}
- bnb_4bit_quant_type: {kind}
- bnb_4bit_use_double_quant: {double}
"""
NF4 = {"quantisation": "nf4", "double_quantisation": True}
NONE = {"quantisation": "none", "double_quantisation": False}


def adapter(folder: Path, card: str = "", **config: Any) -> Path:
    shutil.copytree(NANO / "adapter", folder)
    said = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(said | config))
    if card:
        (folder / "README.md").write_text(card)
    return folder


def warnings(folder: Path, base: Base, seen: dict[str, Any]) -> str:
    return "\n".join(origins.warnings(folder, base, seen))


@pytest.mark.parametrize(
    ("named", "given"),
    [
        ("org/llama", Base("org/llama", COMMIT)),
        ("org/llama", Base("/models/Llama", None, "base")),
        ("/home/someone/llama/", Base("elsewhere/llama", None, "base")),
        ("org/llama", Base(f"/cache/models--org--llama/snapshots/{COMMIT}", None, "base")),
        (None, Base("org/llama", COMMIT)),
    ],
)
def test_a_base_of_the_same_name_is_not_warned_of(named: str | None, given: Base, tmp_path: Path) -> None:
    assert not warnings(adapter(tmp_path / "adapter", base_model_name_or_path=named), given, NF4)


@pytest.mark.parametrize(
    ("config", "given", "said"),
    [
        (
            {"base_model_name_or_path": "org/llama-chat"},
            Base("org/llama", COMMIT),
            "trained on org/llama-chat, .* org/l",
        ),
        ({"base_model_name_or_path": "org/llama"}, Base("other/llama", COMMIT), "trained on org/llama, .* other/llama"),
        (
            {"base_model_name_or_path": "org/llama", "revision": OTHER},
            Base("org/llama", COMMIT),
            f"trained on revision {OTHER} of org/llama, .* {COMMIT}",
        ),
        ({"base_model_name_or_path": "unsloth/llama-bnb-4bit"}, Base("x/llama"), "trained on unsloth/llama-bnb-4bit"),
    ],
)
def test_another_base_or_revision_is_named(config: dict[str, Any], given: Base, said: str, tmp_path: Path) -> None:
    import re  # noqa: PLC0415

    assert re.search(said, warnings(adapter(tmp_path / "adapter", **config), given, NF4))


@pytest.mark.parametrize(
    ("card", "seen", "said"),
    [
        ({"int8": True, "four": False, "kind": "fp4", "double": False}, NONE, "int8"),
        ({"int8": False, "four": True, "kind": "fp4", "double": False}, NF4, "fp4"),
        ({"int8": False, "four": True, "kind": "nf4", "double": True}, NONE, "--quantisation nf4 "),
        ({"int8": False, "four": True, "kind": "nf4", "double": False}, NF4, "--quantisation nf4-single"),
    ],
)
@pytest.mark.parametrize("where", ["card", "config"])
def test_another_quantisation_is_named(
    where: str, card: dict[str, Any], seen: dict[str, Any], said: str, tmp_path: Path
) -> None:
    folder = adapter(tmp_path / "adapter", CARD.format(**card) if where == "card" else "")
    if where == "config":
        kinds = {"load_in_8bit": card["int8"], "load_in_4bit": card["four"], "bnb_4bit_quant_type": card["kind"]}
        quantised = {"quantization_config": {**kinds, "bnb_4bit_use_double_quant": card["double"]}}
        (folder / "config.json").write_text(json.dumps(quantised))

    assert said in warnings(folder, Base("base", None, "base"), seen)


def test_the_same_quantisation_is_not_warned_of(tmp_path: Path) -> None:
    card = CARD.format(int8=False, four=True, kind="nf4", double=True)

    assert not warnings(adapter(tmp_path / "adapter", card, base_model_name_or_path="base"), Base("base"), NF4)


def test_the_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = adapter(tmp_path / "adapter", CARD.format(int8=True, four=False, kind="fp4", double=False),
                    base_model_name_or_path="org/llama")  # fmt: skip
    shutil.copytree(NANO / "base", tmp_path / "base")
    shutil.copytree(NANO / "tokenizer", tmp_path / "base", dirs_exist_ok=True)

    assert main(["import", str(given), str(tmp_path / "out"), "--base", str(tmp_path / "base")]) == 0

    said = capsys.readouterr().out
    assert "WARNING: the adapter says that it was trained on org/llama" in said
    assert "in int8" in said
