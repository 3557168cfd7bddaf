"""Entry point of the projection process: `python -P -m core.projection SESSION_DIR [--rebuild]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_LOCK_WAIT_S = 30.0
"""How long the process of a resumed engine waits for that of the engine before to finish its last snapshot."""

_NICENESS = 10
"""Runs on CPU slots of this machine go first."""


def main(argv: list[str]) -> int:
    """Serve a session, or rebuild its projection; exit code 0, 1 (failed, one sentence on stderr) or 2 (usage)."""
    import duckdb

    from core.collector import collect_rarely
    from core.projection.ingest import rebuild
    from core.projection.lock import ProjectionBusy, projection_lock
    from core.projection.service import Service

    if not argv or len(argv) > 2 or argv[1:] not in ([], ["--rebuild"]):
        sys.stderr.write("usage: python -P -m core.projection SESSION_DIR [--rebuild]\n")
        return 2
    session_dir = Path(argv[0])
    os.nice(_NICENESS)
    collect_rarely()
    try:
        if argv[1:]:
            damage = rebuild(session_dir)
            problem = "" if damage is None else str(damage)
        else:
            with projection_lock(session_dir, wait_s=_LOCK_WAIT_S):
                problem = Service(session_dir, sys.stdin.fileno(), sys.stdout.fileno()).run()
    except ProjectionBusy as busy:
        problem = str(busy)
    except (OSError, ValueError, duckdb.Error) as error:
        first_line = str(error).partition("\n")[0]
        problem = (
            f"the projection of {session_dir} stopped: {first_line}; the journal is untouched, and the projection "
            "can be made anew with `python -P -m core.projection SESSION_DIR --rebuild`"
        )
    if problem:
        sys.stderr.write(problem + "\n")
    return 1 if problem else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
