"""Where a run stands, on disk: what it takes to go on with the next step as if it had never stopped."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from training import whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FOLDER: Final = "checkpoint"
_FILE: Final = "state.safetensors"
_BEFORE: Final = "state.before.safetensors"
_LOG: Final = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """No state of an interrupted run can be read; the text says what to do."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Trained weights by name, their running mean if there is one, and their optimizer, accelerate's or torch's."""

    weights: Mapping[str, Any]
    average: Mapping[str, Any]
    optimizer: Any

    def save(self, folder: Path, step: int) -> None:
        """Write it, whole or not at all, as tensors: nothing is pickled. The save before it is kept."""
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
        place, before = folder / _FOLDER / _FILE, folder / _FOLDER / _BEFORE
        with whole.writing(place) as making:
            save_file({name: each.contiguous().cpu() for name, each in tensors.items()}, making)
            whole.sync(making)
            if place.exists():
                place.replace(before)

    def resume(self, folder: Path) -> int:
        """Put back what was saved, or the save before it where a crash has cut that; returns the steps that are done.

        Raises CheckpointError where neither can be read.
        """
        problems = []
        for path in (folder / _FOLDER / _FILE, folder / _FOLDER / _BEFORE):
            try:
                tensors = load_file(path)
                self._check(tensors)
            except FileNotFoundError:
                continue
            except (OSError, SafetensorError, KeyError, ValueError) as error:
                problems.append(f"{path.name}: {error}")
                continue
            step = self._take(tensors)
            for problem in problems:
                _LOG.warning("%s: cut short (%s); goes on from step %d, the save before it", folder, problem, step)
            return step
        if problems:
            message = (
                f"{folder / _FOLDER}: no state in it can be read ({'; '.join(problems)}); remove that folder, and the "
                "same command begins this part of the run again"
            )
            raise CheckpointError(message)
        return 0

    def _check(self, tensors: Mapping[str, Any]) -> None:
        """Raise KeyError or ValueError unless these are the state of such weights, before any of them is taken."""
        for name, each in self.weights.items():
            for part in ("", "#mean", "#square", *(["#average"] if name in self.average else [])):
                if (found := tensors[name + part].shape) != each.shape:
                    message = f"{name + part} is {list(found)}, {list(each.shape)} is needed"
                    raise ValueError(message)
        for name in ("step", *(["scale", "scale#grown"] if self._scaler is not None else [])):
            tensors[name].item()

    def _take(self, tensors: Mapping[str, Any]) -> int:
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
