"""Entry point of the projection process: `python -P -m core.projection SESSION_DIR [--rebuild | --upto N FOLDER]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_LOCK_WAIT_S = 30.0
"""How long the process of a resumed engine waits for that of the engine before to finish its last snapshot."""

_NICENESS = 10
"""Runs on CPU slots of this machine go first."""

_AWAITED_NICENESS = 5
"""The same where a person waits."""


def main(argv: list[str]) -> int:
    """Serve a session, rebuild its projection, or publish elsewhere what it was right after an event.

    Returns the exit code 0, 1 (failed, one sentence on stderr) or 2 (usage).
    """
    import duckdb

    from core.collector import collect_rarely
    from core.projection.ingest import cut, rebuild
    from core.projection.lock import ProjectionBusy, projection_lock
    from core.projection.service import Service

    os.nice(_AWAITED_NICENESS if "--upto" in argv else _NICENESS)
    collect_rarely()
    try:
        match argv:
            case [session]:
                with projection_lock(Path(session), wait_s=_LOCK_WAIT_S):
                    problem = Service(Path(session), sys.stdin.fileno(), sys.stdout.fileno()).run()
            case [session, "--rebuild"]:
                damage = rebuild(Path(session))
                problem = "" if damage is None else str(damage)
            case [session, "--upto", n, folder] if n.isdecimal():
                problem = cut(Path(session), int(n), Path(folder), _tell)
            case _:
                sys.stderr.write("usage: python -P -m core.projection SESSION_DIR [--rebuild | --upto N FOLDER]\n")
                return 2
    except ProjectionBusy as busy:
        problem = str(busy)
    except (OSError, ValueError, duckdb.Error) as error:
        first_line = str(error).partition("\n")[0]
        problem = (
            f"the projection of {argv[0]} stopped: {first_line}; the journal is untouched, and the projection "
            "can be made anew with `python -P -m core.projection SESSION_DIR --rebuild`"
        )
    if problem:
        sys.stderr.write(problem + "\n")
    return 1 if problem else 0


def _tell(n: int) -> None:
    """Say on stdout how far it is."""
    sys.stdout.write(f"{n}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
