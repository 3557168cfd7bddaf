"""Progress of long work on stderr: a bar with the time it still takes on a terminal, one line anywhere else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Final

import click

Tell = Callable[[float, str], None]
"""Takes the share that is done, 0 to 1, and what is being done, in a few words."""

_STEPS: Final = 1000


@contextlib.contextmanager
def progress(label: str) -> Iterator[Tell]:
    """Show how far something is; `label` names it."""
    if not sys.stderr.isatty():
        said = label

        def remember(_fraction: float, words: str = "") -> None:
            nonlocal said
            said = f"{label}: {words}" if words else label

        yield remember
        click.echo(said, err=True)
        return
    with click.progressbar(
        length=_STEPS, label=label, file=sys.stderr, item_show_func=lambda words: words or "", width=24
    ) as bar:

        def tell(fraction: float, words: str = "") -> None:
            bar.update(max(0, round(min(1.0, fraction) * _STEPS) - bar.pos), words)

        yield tell
