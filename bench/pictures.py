"""`make pictures`: the pictures of the screen in README and docs, drawn from a real terminal over a real session.

python -m bench.pictures           draw them into docs/pictures
python -m bench.pictures --check   say which of them the screen no longer looks like; exit code 1 if any
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.ptys import ROOT, PtyProgram
from tests.support.terminal_svg import svg_of

FOLDER: Final = ROOT / "docs" / "pictures"
_SESSION: Final = ("--executor", "sim", "--gpus", "13xH100,3xH200", "--hours", "2", "--seed", "1", "--speed", "max")
_NAME: Final = "night"
_MOMENT: Final = "1:20:00"


class Picture(NamedTuple):
    """One picture: the terminal's size, the keys that lead to it (each with words that then stand there), its title."""

    name: str
    columns: int
    rows: int
    keys: tuple[tuple[str, str], ...]
    title: str


PICTURES: Final = (
    Picture("screen-120x40", 120, 40, (), "A session in a terminal of 120 by 40 cells"),
    Picture("screen-80x24", 80, 24, (), "The val_bpb curve in a terminal of 80 by 24 cells"),
    Picture("screen-200x60", 200, 60, (("4jj", "hypothesis"),), "A session in a terminal of 200 by 60 cells"),
    Picture(
        "effects-120x40",
        120,
        40,
        (("e", "main effects"),),
        "What each knob of a design does, and which of them interact",
    ),
    Picture("experiment-120x40", 120, 40, (("4\r", "hypothesis"),), "One experiment: verdict, runs, losses, diff"),
)


def draw(picture: Picture, home: Path) -> str:
    """Play the picture's keys to a replay of the session, held at a moment; returns the SVG."""
    command = [sys.executable, "-m", "tui", "replay", _NAME]
    environ = {"AUTORESEARCH_HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_STATE_HOME": str(home)}
    with PtyProgram(command, picture.columns, picture.rows, environ) as program:
        program.until(" of ")
        program.send(" ")
        program.until("‖")
        program.send("T")
        program.until("Go to")
        program.send(f"{_MOMENT}\r")
        program.until(f" {_MOMENT} of ")
        for keys, words in picture.keys:
            program.send(keys)
            program.until(words)
        program.quiet()
        return svg_of(program.screen, picture.title)


def main(arguments: list[str] | None = None) -> int:
    """Draw, or check, all pictures; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the pictures there are, write none")
    check = parser.parse_args(arguments).check
    stale = []
    with tempfile.TemporaryDirectory() as folder:
        environ = os.environ | {"AUTORESEARCH_HOME": folder}
        command = [sys.executable, "-m", "tui", "run", *_SESSION, "--name", _NAME, "--plain"]
        subprocess.run(command, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        for picture in PICTURES:
            drawn, path = draw(picture, Path(folder)), FOLDER / f"{picture.name}.svg"
            if not check:
                path.write_text(drawn)
                print(f"{path.relative_to(ROOT)}  {len(drawn) / 1024:.0f} kB")
            elif not path.exists() or path.read_text() != drawn:
                stale.append(picture.name)
    if stale:
        print(f"the screen no longer looks like {', '.join(stale)}: run 'make pictures', and look at what changed")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
