"""Pointing the watched link at another bundle, and back: one rename, so that a worker sees one or the other.

HAMGATE_BUNDLE is then a symbolic link, and `<link>.previous` beside it remembers what it pointed to before.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class LinkError(Exception):
    """The link cannot be turned; says how to fix it."""


def current(link: Path) -> Path | None:
    """The folder that the link points to; None when it is not there yet. Raises LinkError when it is no link."""
    if link.is_symlink():
        return link.resolve()
    if link.exists():
        message = (
            f"{link} is a folder, not a link, so it cannot be turned: name a link in HAMGATE_BUNDLE "
            f"(ln -s {link} /some/place/current)"
        )
        raise LinkError(message)
    return None


def use(link: Path, bundle: Path) -> Path | None:
    """Point the link at a bundle, and remember what it pointed to, which is returned. Raises LinkError."""
    before, target = current(link), bundle.resolve()
    if before == target:
        return before
    if before is not None:
        _point(_previous(link), before)
    _point(link, target)
    return before


def back(link: Path) -> Path:
    """Point the link at what it pointed to before; done again, it goes forth again. Raises LinkError."""
    now, previous = current(link), _previous(link)
    if now is None or not previous.is_symlink():
        message = f"{link} has not been turned yet, so there is no bundle to go back to"
        raise LinkError(message)
    before = previous.resolve()
    if not before.is_dir():
        message = f"{before}, which {link} pointed to before, is no longer there"
        raise LinkError(message)
    _point(link, before)
    _point(previous, now)
    return before


def _previous(link: Path) -> Path:
    return link.with_name(f"{link.name}.previous")


def _point(link: Path, target: Path) -> None:
    """Make or turn a link in one step."""
    making = link.with_name(f".{link.name}.{os.getpid()}")
    making.unlink(missing_ok=True)
    try:
        making.symlink_to(target)
        making.replace(link)
    except OSError as error:
        making.unlink(missing_ok=True)
        message = f"{link}: {error.strerror}"
        raise LinkError(message) from error
