"""What the encoder makes of texts before it learns labels, for a student to guess: its vectors' main axes.

A probability tells a student one number of a text, a vector tells what the text is about. Guessing a teacher's inner
states: Romero et al., *FitNets*, arXiv 1412.6550.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from training.fit.batches import STATE_UNIT

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALUES: Final = 32
"""Main axes that are kept, of those that texts differ on."""
_NEGLIGIBLE: Final = 1e-6
_LARGEST: Final = 127


def reduced(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """[texts, VALUES at most] of vectors [texts, width]: their places on the axes of most variance, a byte each.

    Each axis is divided by the square root of its deviation, so that the first ones do not drown the others, and all by
    one number, so that a value's mean square is 1 (`batches.STATE_UNIT`).
    """
    centred = vectors - vectors.mean(axis=0)
    variance, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    main = np.argsort(variance)[::-1][: min(VALUES, len(variance))]
    main = main[variance[main] > _NEGLIGIBLE * variance.max()]
    values = (centred @ axes[:, main]) / np.sqrt(np.sqrt(variance[main]))
    values /= np.sqrt(np.mean(values**2))
    found: NDArray[np.int8] = np.clip(np.round(values / STATE_UNIT), -_LARGEST, _LARGEST).astype(np.int8)
    return found
