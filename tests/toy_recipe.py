"""A recipe that makes its base in seconds, and a progress that shows nothing."""

from __future__ import annotations

import msgspec

from training.fit import recipe

TOY = msgspec.convert(
    {
        "name": "toy",
        "base": {"id": "toy"},
        "pretraining": {
            "vocabulary": 420, "width": 64, "layers": 2, "heads": 4, "key_value_heads": 2, "intermediate": 64,
            "epochs": 3, "learning_rate": 3e-3, "batch": 16, "warmup_steps": 4,
        },
        "lora": {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "v_proj"]},
        "fit": {"epochs": 3, "learning_rate": 3e-3, "batch": 8, "accumulation": 2, "max_tokens": 48},
    },
    recipe.Recipe,
)  # fmt: skip


def quiet(_phase: str, _step: int, _steps: int, _loss: float, _tokens: int) -> None:
    """Show nothing."""
