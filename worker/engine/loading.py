"""From a bundle and a kind to an engine: where the base lies, what training saw of it, what this machine can run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from worker.engine import files, weights
from worker.engine.cpu import CpuEngine
from worker.engine.kinds import Engine, Kind, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

    from worker.model.bundle import Base, Bundle

_OLDEST: Final = {Kind.CUDA_BF16: (8, 0), Kind.CUDA_NF4: (8, 0), Kind.CUDA_FP8: (8, 9)}
"""The first compute capability that has each kind's arithmetic."""

BY_TENSORS: Final = "sha256:"
"""Begins the revision of a base that `python -m training base` converts; the digest of its tensors follows."""


def load(bundle: Bundle, tokenizer: Tokenizer, kind: Kind, *, threads: int, token_budget: int | None) -> Engine:
    """See `worker.engine.load`."""
    kind = resolve(kind)
    quantised, double = seen_through_nf4(bundle.recipe)
    is_nf4 = kind is Kind.CUDA_NF4
    read = weights.read(
        base_folder(bundle), bundle.adapter, quantised=quantised, double=double, separate_adapter=is_nf4
    )
    _require_fit(read.shape, tokenizer, bundle.labels, bundle.max_tokens)
    if kind is Kind.CPU:
        return CpuEngine(read, threads=threads, token_budget=token_budget)
    first = first_token(tokenizer)
    return on_gpu(read, kind, longest=bundle.max_tokens, token_budget=token_budget, double=double, first=first)


def check(base: Path, tokenizer: Tokenizer, labels: Sequence[str], max_tokens: int) -> None:
    """Raise UnsupportedModelError where no bundle of this base could be loaded; its weights are not read."""
    _require_fit(weights.check(base, len(labels)), tokenizer, labels, max_tokens)


def _require_fit(shape: weights.Shape, tokenizer: Tokenizer, labels: Sequence[str], max_tokens: int) -> None:
    if len(labels) != shape.labels:
        message = f"the bundle names {len(labels)} labels, its score head has {shape.labels}"
        raise UnsupportedModelError(message)
    if (largest := max(tokenizer.get_vocab(with_added_tokens=True).values())) >= shape.vocabulary:
        message = f"the tokenizer gives ids up to {largest}, its base has embeddings for {shape.vocabulary}"
        raise UnsupportedModelError(message)
    if max_tokens > shape.positions:
        message = f"max_tokens is {max_tokens}, its base has {shape.positions} positions"
        raise UnsupportedModelError(message)


def on_gpu(  # noqa: PLR0913 # plain values, each of its own
    read: weights.Weights,
    kind: Kind,
    *,
    longest: int,
    token_budget: int | None = None,
    double: bool = False,
    first: int | None = None,
) -> Engine:
    """The engine of a CUDA kind for weights that were read for it; `first` is what every message begins with."""
    from worker.engine import forward, kernels  # noqa: PLC0415 # a compiler comes with them
    from worker.engine.gpu import CudaEngine  # noqa: PLC0415

    device = torch.device("cuda")
    with torch.inference_mode():
        run: forward.Forward
        if kind is Kind.CUDA_FP8:
            run = forward.Fp8(read, device, kernels)
        elif kind is Kind.CUDA_NF4:
            run = forward.Nf4(read, device, kernels, double=double)
        else:
            run = forward.Plain(read, device, kernels)
    return CudaEngine(run, kind, longest=longest, token_budget=token_budget, first=first)


def first_token(tokenizer: Tokenizer) -> int | None:
    """The id that the tokenizer puts before every text, if it does so."""
    before = tokenizer.encode("").ids
    return before[0] if len(before) == 1 and tokenizer.encode("a").ids[:1] == before else None


def resolve(kind: Kind) -> Kind:
    """The kind that will run. Raises UnsupportedModelError for one that this machine has not."""
    capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    if kind is Kind.AUTO:
        return Kind.CUDA_BF16 if capability and capability >= _OLDEST[Kind.CUDA_BF16] else Kind.CPU
    if kind in _OLDEST:
        if capability is None:
            message = f"{kind} needs an NVIDIA GPU, and there is none here; try cpu or auto"
            raise UnsupportedModelError(message)
        if capability < _OLDEST[kind]:
            message = f"{kind} needs compute capability {_OLDEST[kind]}, this GPU has {capability}; try auto"
            raise UnsupportedModelError(message)
    return kind


def base_folder(bundle: Bundle) -> Path:
    """Return the folder of the base's weights: in the bundle, local, or fetched once from the hub."""
    return bundle.base_folder or located(bundle.base)


def located(base: Base) -> Path:
    """Return the folder of the weights of a base outside a bundle: converted, local, or fetched once from the hub."""
    if base.revision and base.revision.startswith(BY_TENSORS):
        return _verified(base, base.revision.removeprefix(BY_TENSORS))
    if (local := Path(base.id)).is_dir():
        return local
    try:
        return from_hub(base.id, base.revision, [files.CONFIG, files.INDEX, "*.safetensors"])
    except (OSError, ValueError) as error:
        message = (
            f"base {base.id} is not here and cannot be fetched ({type(error).__name__}): needed are the hub, or "
            "HF_HOME with what was fetched, or a bundle with its base inside"
        )
        raise UnsupportedModelError(message) from error


def converted(base: str) -> Path:
    """Return the folder where a base that `python -m training base` converts is looked for: below HF_HOME."""
    from huggingface_hub import constants  # noqa: PLC0415 # only for a base outside a bundle

    return Path(constants.HF_HOME) / base


def _verified(base: Base, digest: str) -> Path:
    folder = converted(base.id)
    if not folder.is_dir():
        message = (
            f"base {base.id} is not here: make {folder} by `python -m training base {base.id.rpartition('/')[2]}`, or "
            "copy it from where it was made"
        )
        raise UnsupportedModelError(message)
    if (found := files.digest(folder)) != digest:
        message = (
            f"base {base.id}: the tensors in {folder} have the digest {found[:12]}..., the bundle was made with "
            f"{digest[:12]}...; remove the folder, and make it again"
        )
        raise UnsupportedModelError(message)
    return folder


def from_hub(base: str, revision: str | None, wanted: list[str]) -> Path:
    """Return the folder in which the hub's library keeps these files of a base, fetched if need be.

    To learn the commit, the library asks a hub which files there are, even if all of them are here: where there is
    no hub, what is here must do.
    """
    import httpx  # noqa: PLC0415 # only for a base that is not here
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import OfflineModeIsEnabled  # noqa: PLC0415

    try:
        return Path(snapshot_download(base, revision=revision, allow_patterns=wanted))
    except (OfflineModeIsEnabled, httpx.ConnectError, httpx.TimeoutException):
        return Path(snapshot_download(base, revision=revision, allow_patterns=wanted, local_files_only=True))


def seen_through_nf4(recipe: dict[str, Any]) -> tuple[bool, bool]:
    """Whether training saw the base through NF4, and whether with doubly quantised scales."""
    quantisation = recipe.get("quantisation", "none")
    if quantisation not in ("nf4", "none"):
        message = f"quantisation = {quantisation!r} in the bundle's recipe; known are nf4 and none"
        raise UnsupportedModelError(message)
    return quantisation == "nf4", bool(recipe.get("double_quantisation", False))
