"""A recipe: everything that was chosen, in one TOML file; the resolved one is saved beside what it made."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

RECIPES: Final = Path(__file__).resolve().parent / "recipes"
Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class RecipeError(ValueError):
    """A recipe that cannot be followed; the text names the file and the field."""


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pretrained model: a hub id or a local folder, and the hub's revision."""

    id: str
    revision: str | None = None


class Pretraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a small base of our own is made, from the train rows and their labels alone.

    `language` is the weight of guessing each next piece beside the label: a text teaches more than its class.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    epochs: int
    learning_rate: float
    batch: int = 32
    dropout: float = 0.1
    token_dropout: float = 0.1
    weight_decay: float = 0.05
    warmup_steps: int = 100
    language: float = 0.0


class Lora(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """LoRA (arXiv 2106.09685): rank, alpha, dropout, and which projections get an adapter.

    `rslora` scales by alpha / sqrt(r) (2312.03732); `dora` learns each row's length apart (2402.09353); `loftq` starts
    from what quantisation has lost (2310.08659); `plus` is how much faster B learns than A (LoRA+, 2402.12354).
    """

    r: int
    alpha: int
    dropout: float
    targets: tuple[Target, ...]
    rslora: bool = False
    dora: bool = False
    loftq: bool = False
    plus: float = 1.0


class Fit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the adapter is trained; `batch` messages a step, `accumulation` steps an update.

    `average` is the decay of the weights' running mean, which is what is kept, 0 for the last weights; `neftune` is its
    alpha (2310.05914); `label_smoothing` and `focal`, its gamma (1708.02002), bend the loss; `balance` weighs each
    class by the inverse of its share; `cuts` is the share of gaps between letters at which a word is cut before it is
    tokenised, for a base made here, whose tokenizer knows the cut (BPE-dropout, 1910.13267, drawn from the seed).
    """

    epochs: int
    learning_rate: float
    batch: int
    accumulation: int = 1
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_tokens: int = 256
    augment: bool = False
    average: float = 0.0
    neftune: float = 0.0
    label_smoothing: float = 0.0
    focal: float = 0.0
    balance: bool = False
    cuts: float = 0.0


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole of it. Without `pretraining` the base is loaded; with it, made."""

    name: str
    base: Base
    lora: Lora
    fit: Fit
    quantisation: Literal["nf4", "none"] = "nf4"
    double_quantisation: bool = True
    pretraining: Pretraining | None = None

    @property
    def on_hub(self) -> bool:
        """Whether its base is neither made here nor a local folder."""
        return self.pretraining is None and not Path(self.base.id).is_dir()

    def resolved(self) -> dict[str, Any]:
        """As plain values, the same that a bundle or a file gives back: lists, where a recipe has tuples."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return plain


def load(path: Path) -> Recipe:
    """Read a recipe, by path or by name of one that is shipped. Raises RecipeError."""
    path = path if path.exists() else RECIPES / f"{path.name.removesuffix('.toml')}.toml"
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Recipe)
    except OSError as error:
        known = ", ".join(sorted(shipped.stem for shipped in RECIPES.glob("*.toml")))
        message = f"{path}: cannot be read ({error.strerror}); shipped are {known}"
        raise RecipeError(message) from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        message = f"{path}: {error}"
        raise RecipeError(message) from None
