"""Pointing the watched link at another bundle, and back: one rename, so that a worker sees one or the other.

HAMGATE_BUNDLE is then a symbolic link, and `<link>.history` beside it remembers what it pointed to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

_KEPT: Final = 20
"""Bundles that the history holds at most."""


class LinkError(Exception):
    """The link cannot be turned; says how to fix it."""


class History(msgspec.Struct, frozen=True):
    """What `use` has chosen, the oldest first, and which of these is in force: an earlier one after going back.

    What was turned by hand counts as chosen, or as gone back to where it is among the earlier ones.
    """

    bundles: tuple[str, ...] = ()
    at: int = -1

    def require_whole(self) -> None:
        """Raise DecodeError where the place in force is none of these."""
        if self.at not in range(len(self.bundles)):
            raise msgspec.DecodeError

    @property
    def is_back(self) -> bool:
        """Whether one before the last chosen is in force."""
        return self.at < len(self.bundles) - 1

    def seeing(self, folder: Path) -> History:
        """Return the history that fits what the link points to."""
        name = str(folder)
        if self.bundles and self.bundles[self.at] == name:
            return self
        if name in self.bundles:
            return History(self.bundles, max(at for at, each in enumerate(self.bundles) if each == name))
        return self.choosing(folder)

    def choosing(self, folder: Path) -> History:
        """Return the history once this is chosen; what was left by going back is forgotten."""
        before = self.bundles[: self.at + 1]
        kept = (*before, str(folder)) if before[-1:] != (str(folder),) else before
        kept = kept[-_KEPT:]
        return History(kept, len(kept) - 1)


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
    """Point the link at a bundle; return what it pointed to. Raises LinkError."""
    before, target = current(link), bundle.resolve()
    known = _known(link)
    if before != target:
        _point(link, target)
    _remember(link, known.choosing(target))
    return before


def way_back(link: Path, *, again: bool = False) -> Path | None:
    """Return the bundle before the last one chosen; None where it is in force already. `again`: one further back.

    Of those further back, the ones that are no longer there are passed over. Raises LinkError where there is none.
    """
    known = _known(link)
    if known.is_back and not again:
        return None
    earlier = [Path(each) for each in reversed(known.bundles[: max(known.at, 0)])]
    if not earlier:
        message = f"{link} has pointed to nothing before, so there is no bundle to go back to"
        raise LinkError(message)
    if again:
        earlier = [each for each in earlier if each.is_dir()] or earlier
    if not earlier[0].is_dir():
        message = f"{earlier[0]}, which {link} pointed to before, is no longer there; --again goes further back"
        raise LinkError(message)
    return earlier[0]


def back(link: Path, bundle: Path) -> None:
    """Point the link at the bundle that is the way back. Raises LinkError."""
    known = _known(link)
    at = max(at for at, each in enumerate(known.bundles[: known.at]) if each == str(bundle))
    _point(link, bundle)
    _remember(link, History(known.bundles, at))


def _known(link: Path) -> History:
    """Return the history, with what the link points to now. Raises LinkError."""
    now, file = current(link), _history(link)
    try:
        known = msgspec.json.decode(file.read_bytes(), type=History)
        known.require_whole()
    except FileNotFoundError:
        known = _of_older_version(link)
    except (OSError, msgspec.DecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        message = f"{file} cannot be read ({why}); delete it, and `hamgate use` begins a new one"
        raise LinkError(message) from error
    return known if now is None else known.seeing(now)


def _of_older_version(link: Path) -> History:
    """Return what versions before the history kept: a second link to the bundle before."""
    previous = link.with_name(f"{link.name}.previous")
    return History((str(previous.resolve()),), 0) if previous.is_symlink() else History()


def _remember(link: Path, history: History) -> None:
    file = _history(link)
    making = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        making.write_bytes(msgspec.json.format(msgspec.json.encode(history)) + b"\n")
        making.replace(file)
        link.with_name(f"{link.name}.previous").unlink(missing_ok=True)
    except OSError as error:
        making.unlink(missing_ok=True)
        message = f"{link} points to {link.resolve()} now, but {file} cannot be written: {error.strerror}"
        raise LinkError(message) from error


def _history(link: Path) -> Path:
    return link.with_name(f"{link.name}.history")


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
