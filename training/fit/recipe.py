"""A recipe: everything that was chosen, in one TOML file; the resolved one is saved beside what it made."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

RECIPES: Final = Path(__file__).resolve().parent.parent / "recipes"
Count = Annotated[int, Meta(ge=1)]
Steps = Annotated[int, Meta(ge=0)]
Rate = Annotated[float, Meta(gt=0, le=1)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Amount = Annotated[float, Meta(ge=0)]
Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class RecipeError(ValueError):
    """A recipe that cannot be followed; the text names the file and the field."""


class RecipeBase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pretrained model: a hub id or a local folder, and the hub's revision."""

    id: str
    revision: str | None = None


class Pretraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pretraining of a small base of our own, from the train rows and their labels alone.

    `language` is the weight of guessing each next piece beside the label: a text teaches more than its class.
    `alphabet` is how many of the commonest characters have a piece of their own; the others are spelt in bytes.
    `embedding` is the share of the learning rate that the pieces' vectors learn at.
    `states` is the weight of guessing what the teacher made of a text (its states, `data/taught`).
    `taught` and `repeated` say what an epoch is made of, as in `Fit`.
    """

    vocabulary: Annotated[int, Meta(ge=260)]  # four signs and every byte
    width: Count
    layers: Count
    heads: Count
    key_value_heads: Count
    intermediate: Count
    epochs: Count
    learning_rate: Rate
    batch: Count = 32
    dropout: Share = 0.1
    token_dropout: Share = 0.1
    weight_decay: Amount = 0.05
    warmup_steps: Steps = 100
    language: Amount = 0.0
    alphabet: Count = 120
    embedding: Amount = 1.0
    states: Amount = 0.0
    taught: Steps = 0
    repeated: dict[str, Count] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a shape that no Llama can have."""
        if self.width % (2 * self.heads):
            message = f"width is {self.width}, which {self.heads} heads do not share in even parts"
            raise ValueError(message)
        if self.heads % self.key_value_heads:
            message = f"heads are {self.heads}, which {self.key_value_heads} key_value_heads do not share evenly"
            raise ValueError(message)


class Lora(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """LoRA (arXiv 2106.09685): rank, alpha, dropout, and which projections get an adapter.

    `rslora` scales by alpha / sqrt(r) (2312.03732); `dora` learns each row's length separately (2402.09353).
    """

    r: Count
    alpha: Count
    dropout: Share
    targets: Annotated[tuple[Target, ...], Meta(min_length=1)]
    rslora: bool = False
    dora: bool = False


class Fit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Training of the adapter; `batch` messages a step, `accumulation` steps an update.

    `average` is the decay of the weights' running mean, which is what is kept, 0 for the last weights; `cuts` is the
    share of gaps between letters at which a word is cut before it is tokenised, for a base made here, whose tokenizer
    knows the cut (BPE-dropout, 1910.13267, drawn from the seed); `recased` is the share of messages whose letters get a
    case by chance, for a base whose tokenizer minds it; `punctuated` that of messages with marks strewn after their
    words; `sloppy` that of messages typed in haste; `rehosted` that of messages whose links lead to a host of another
    message, of whichever class. `taught` is how many unlabelled messages, with a teacher's probability each, are drawn
    for each epoch; `states` is the weight of guessing its states. `repeated` is how often a source's rows stand in an
    epoch, by the source's name; others stand once.
    """

    epochs: Count
    learning_rate: Rate
    batch: Count
    accumulation: Count = 1
    warmup_steps: Steps = 0
    weight_decay: Amount = 0.0
    max_tokens: Count = 256
    augment: bool = False
    average: Share = 0.0
    cuts: Share = 0.0
    recased: Share = 0.0
    punctuated: Share = 0.0
    sloppy: Share = 0.0
    rehosted: Share = 0.0
    taught: Steps = 0
    states: Amount = 0.0
    repeated: dict[str, Count] = msgspec.field(default_factory=dict)


class Budgets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shares of any source's lawful texts that a bundle's bands may flag or block, and block, on the calibration slice.

    A model that ranks well keeps the defaults. One that does not would stop next to nothing under them.
    """

    flagged: Rate = 0.01
    blocked: Rate = 0.001


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole of it. Without `pretraining` the base is loaded; with it, made."""

    name: str
    base: RecipeBase
    lora: Lora
    fit: Fit
    quantisation: Literal["nf4", "none"] = "nf4"
    double_quantisation: bool = True
    pretraining: Pretraining | None = None
    bands: Budgets = Budgets()

    @property
    def on_hub(self) -> bool:
        """Whether its base is neither made here nor a local folder."""
        return self.pretraining is None and not Path(self.base.id).is_dir()

    def resolved(self) -> dict[str, Any]:
        """As plain values, the same that a bundle or a file gives back: lists, where a recipe has tuples."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return plain


def load(path: Path, *, base: str | None = None) -> Recipe:
    """Read a recipe, by path or by name of one that is shipped; `base` replaces its base. Raises RecipeError."""
    path = path if path.exists() else RECIPES / f"{path.name.removesuffix('.toml')}.toml"
    try:
        recipe = msgspec.convert(tomllib.loads(path.read_bytes().decode()), Recipe)
        return msgspec.structs.replace(recipe, base=RecipeBase(base)) if base else recipe
    except OSError as error:
        known = ", ".join(sorted(shipped.stem for shipped in RECIPES.glob("*.toml")))
        message = f"{path}: cannot be read ({error.strerror}); shipped are {known}"
        raise RecipeError(message) from None
    except UnicodeDecodeError:
        message = f"{path}: not UTF-8, as TOML is; save it anew as that"
        raise RecipeError(message) from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        message = f"{path}: {error}"
        raise RecipeError(message) from None
