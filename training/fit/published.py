"""A bundle judged by transformers itself: for families that no engine here serves, and to hold the engines to.

Slow beside an engine, and it needs all that training needs. What it judges is compared with; it is not served.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import numpy as np
import torch
from peft import PeftModel

from training.fit import model, packing
from training.fit.batches import Example
from training.fit.passes import cut
from training.fit.recipe import RECIPES, Recipe, RecipeBase, load
from worker.engine import Done, Kind
from worker.engine.loading import base_folder, seen_through_nf4
from worker.model.bundle import Bundle
from worker.model.classifier import Classifier

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from worker.engine import Tokens

_TOKENS: Final = 16_384
"""Tokens of a pass."""


def classifier(folder: Path) -> Classifier:
    """By the engine that serves the bundle; where none does, by transformers.

    Raises BundleError, UnsupportedModelError, ModelError.
    """
    bundle = Bundle.load(folder)
    family = json.loads((base_folder(bundle) / "config.json").read_text()).get("model_type")
    is_served = family == model.SERVED or family not in model.FAMILIES  # what nobody knows is refused by the engine
    return Classifier.load(folder) if is_served else Classifier(bundle, ReferenceEngine(bundle))


class ReferenceEngine:
    """An engine as `worker.engine` wants one, with PEFT's model behind it, its base quantised as training saw it."""

    pid = None
    has_ended = False

    def __init__(self, bundle: Bundle) -> None:
        loaded = model.load(_recipe(bundle), base_folder(bundle), bundle.labels, 0)
        self._model: Any = PeftModel.from_pretrained(loaded, str(bundle.adapter)).eval()
        model.keep_layout(self._model)
        for name, weights in self._model.named_parameters():
            if "modules_to_save" in name:  # the head, which was trained in float32 whatever the base is in
                weights.data = weights.data.float()
        self._precision = model.compute_type()
        self._device = next(self._model.parameters()).device
        self.kind = Kind.CPU if self._device.type == "cpu" else Kind.CUDA_NF4
        self.labels = len(bundle.labels)
        self.token_budget = _TOKENS
        self.halvings = self.shared_tokens = 0

    def begin(self, tokens: Sequence[Tokens]) -> Done:
        """See `worker.engine.Engine`; judged at once."""
        return Done(self.logits(tokens))

    @torch.inference_mode()
    def logits(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        """See `worker.engine.Engine`."""
        order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
        found = np.empty((len(tokens), self.labels), dtype=np.float32)
        done = 0
        is_half = self._precision != torch.float32
        for part in cut([Example(list(tokens[row]), 0) for row in order], _TOKENS):
            packed = packing.pack(part)
            packed = packed.on(packed.flat.to(self._device))
            with torch.autocast(self._device.type, self._precision, enabled=is_half):
                answer = model.logits(self._model, packed)
            found[order[done : done + len(part)]] = answer.float().cpu().numpy()
            done += len(part)
        return found


def _recipe(bundle: Bundle) -> Recipe:
    """Return a recipe to load the bundle's base by: a bundle that was made elsewhere has none of its own."""
    quantised, double = seen_through_nf4(bundle.recipe)
    seed = load(RECIPES / "seed.toml")
    base = RecipeBase(bundle.base.id, bundle.base.revision)
    kind: Literal["nf4", "none"] = "nf4" if quantised else "none"
    return msgspec.structs.replace(seed, base=base, quantisation=kind, double_quantisation=double)
