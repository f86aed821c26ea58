"""The training commands as a person types them: in several processes, off a hub's cache, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests import toy_messages
from training.fit import pretrain

if TYPE_CHECKING:
    from typing import Any

HUB_ID = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Messages that are no near-duplicates of each other, so that every one is a cluster of its own."""
    path = tmp_path_factory.mktemp("data") / "messages.tsv"
    path.write_text(toy_messages.tsv(220))
    return path


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub's cache as huggingface_hub keeps it, a toy under TinyLlama's name in it."""
    cache = tmp_path_factory.mktemp("hub")
    repository = cache / f"models--{HUB_ID.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    torch.manual_seed(0)
    tokenizer = pretrain.make_tokenizer([*toy_messages.HAM, *toy_messages.SPAM, *toy_messages.WORDS], 400)
    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    LlamaForCausalLM(LlamaConfig(**sizes, **heads, vocab_size=len(tokenizer))).save_pretrained(snapshot)
    tokenizer.save_pretrained(snapshot)
    return cache


def offline(hub: Path) -> dict[str, str]:
    away = {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return away | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run(*commands: list[str], hub: Path, launch: tuple[str, ...] = ()) -> str:
    """One after the other in one process, since importing torch takes longer than any of them."""
    script = hub / f"commands-{len(list(hub.iterdir()))}.py"
    script.write_text(f"from training.__main__ import main\nraise SystemExit(any(map(main, {commands!r})))\n")
    done = subprocess.run(
        [sys.executable, *launch, str(script)],
        cwd=ROOT, env=os.environ | offline(hub), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seed recipe, but that dropout, which each process throws its own dice for, is off, and learning is fast."""
    text = (ROOT / "training" / "recipes" / "seed.toml").read_text()
    path = tmp_path_factory.mktemp("recipe") / "toy.toml"
    path.write_text(text.replace("dropout = 0.05", "dropout = 0.0").replace("2e-4", "5e-3"))
    return path


@pytest.fixture(scope="module")
def alone(collection: Path, hub: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One process each: train and export; predict. Returns the folder and what was said."""
    folder = tmp_path_factory.mktemp("alone")
    made, bundle, chosen = (
        str(folder / "run"),
        str(folder / "bundle"),
        ["--recipe", str(recipe), "--data", str(collection)],
    )
    run(["train", made, *chosen], ["export", made, bundle, *chosen], hub=hub)
    said = subprocess.run(
        [sys.executable, "-m", "worker", "predict", "free prize call now alpha", "see you at home bravo"],
        cwd=ROOT, env=os.environ | offline(hub) | {"HAMGATE_BUNDLE": bundle},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return folder, said.stdout


def test_the_published_recipe_goes_from_a_hub_id_to_a_prediction_without_a_network(alone: tuple[Path, str]) -> None:
    folder, said = alone

    manifest = json.loads((folder / "bundle" / "bundle.json").read_text())
    assert manifest["base"] == {"id": HUB_ID, "revision": COMMIT, "path": None}
    assert not (folder / "bundle" / "base").exists()
    assert [line.split()[0] for line in said.splitlines()[-2:]] == ["spam", "ham"]


@pytest.mark.long
def test_two_processes_learn_what_one_learns(
    alone: tuple[Path, str], collection: Path, hub: Path, recipe: Path, tmp_path: Path
) -> None:
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = ["train", str(tmp_path), "--recipe", str(recipe), "--data", str(collection)]

    said = run(command, hub=hub, launch=launch)

    log = json.loads((tmp_path / "training.json").read_text())
    assert log["processes"] == 2
    assert said.count("trained: ") == 1
    one, two = (load_file(each / "adapter" / "adapter_model.safetensors") for each in (alone[0] / "run", tmp_path))
    assert one.keys() == two.keys()
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.long
def test_the_notebook_runs_from_its_first_cell_to_its_last(
    collection: Path, hub: Path, recipe: Path, tmp_path: Path
) -> None:
    notebook = json.loads((ROOT / "training" / "tinyllama_sms_spam.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    small = {'Path("seed")': f"Path({str(recipe)!r})", "DATA = ()": f"DATA = ({str(collection)!r},)",
             '"build/notebook"': repr(str(tmp_path))}  # fmt: skip
    for asked, instead in small.items():
        assert asked in cells[0]
        cells[0] = cells[0].replace(asked, instead)
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join(cells))

    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=ROOT, env=os.environ | offline(hub), capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    assert "parameters learn" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("[('spam', ")
