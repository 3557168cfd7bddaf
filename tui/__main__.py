"""The command `autoresearch-tui`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; every failure is one sentence on stderr and an exit code (README)."""
    from tui.cli import run_command_line

    sys.exit(run_command_line(sys.argv[1:]))


if __name__ == "__main__":
    main()
