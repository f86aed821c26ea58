"""Where a run stands, on disk: what it takes to go on with the next step as if it had never stopped."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FOLDER: Final = "checkpoint"
_FILE: Final = "state.safetensors"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Trained weights by name, their running mean if there is one, and their optimizer, accelerate's or torch's."""

    weights: Mapping[str, Any]
    average: Mapping[str, Any]
    optimizer: Any

    def save(self, folder: Path, step: int) -> None:
        """Write it, whole or not at all, as tensors: nothing is pickled."""
        tensors = {"step": torch.tensor(step)}
        for name, each in self.weights.items():
            moments = self.optimizer.state[each]
            tensors |= {
                name: each.detach(),
                f"{name}#mean": moments["exp_avg"],
                f"{name}#square": moments["exp_avg_sq"],
            }
        tensors |= {f"{name}#average": each for name, each in self.average.items()}
        if self._scaler is not None:
            scaler = self._scaler.state_dict()
            tensors |= {"scale": torch.tensor(scaler["scale"]), "scale#grown": torch.tensor(scaler["_growth_tracker"])}
        making = fresh(folder / "checkpoint-making")
        save_file({name: each.contiguous().cpu() for name, each in tensors.items()}, making / _FILE)
        (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
        (making / _FILE).replace(folder / _FOLDER / _FILE)
        making.rmdir()

    def resume(self, folder: Path) -> int:
        """Put back what was saved; returns the steps that are done."""
        path = folder / _FOLDER / _FILE
        if not path.exists():
            return 0
        tensors = load_file(path)
        step = tensors["step"]
        with torch.no_grad():
            for name, each in self.weights.items():
                each.copy_(tensors[name])
                self.optimizer.state[each] = {
                    "step": step.float().to(each.device),
                    "exp_avg": tensors[f"{name}#mean"].to(each.device),
                    "exp_avg_sq": tensors[f"{name}#square"].to(each.device),
                }
            for name, each in self.average.items():
                each.copy_(tensors[f"{name}#average"])
        if self._scaler is not None:
            scaler = self._scaler.state_dict()
            scaler |= {"scale": tensors["scale"].item(), "_growth_tracker": int(tensors["scale#grown"])}
            self._scaler.load_state_dict(scaler)
        return int(step)

    @property
    def _scaler(self) -> Any:  # noqa: ANN401 torch's, or none
        return getattr(self.optimizer, "scaler", None)


def forget(folder: Path) -> None:
    """A run that has ended needs none."""
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)


def fresh(folder: Path) -> Path:
    """An empty folder, whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
