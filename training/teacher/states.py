"""What the teacher makes of texts, as a student guesses it: its pooled states, on their main axes, a byte a value.

A probability tells a student one number of a text, a state tells what the text is about. Guessing a teacher's states:
Romero et al., *FitNets*, arXiv 1412.6550.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from training.fit.batches import STATE_UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALUES: Final = 32
"""Main axes that are kept."""
_LARGEST: Final = 127


def reduced(*views: NDArray[np.float32]) -> NDArray[np.int8]:
    """[texts, VALUES] of views [texts, width] of the same texts, each of which counts the same.

    Axes are those of the largest variance. Each is divided by the square root of its deviation, so that the first ones
    do not drown the others, and all by one number, so that a value's mean square is 1 (`batches.STATE_UNIT`).
    """
    together = np.concatenate([_unit(view) for view in views], axis=1)
    variance, axes = np.linalg.eigh(together.T @ together / len(together))
    main = np.argsort(variance)[::-1][: min(VALUES, len(variance))]
    values = (together @ axes[:, main]) / np.sqrt(np.sqrt(np.maximum(variance[main], np.finfo(np.float32).tiny)))
    values /= np.sqrt(np.mean(values**2))
    found: NDArray[np.int8] = np.clip(np.round(values / STATE_UNIT), -_LARGEST, _LARGEST).astype(np.int8)
    return found


def _unit(view: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = view - view.mean(axis=0)
    found: NDArray[np.float32] = centred / np.sqrt((centred**2).sum(axis=1).mean())
    return found
