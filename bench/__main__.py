"""`python -m bench`: measure everything that is quick to measure, and print one Markdown table."""

from __future__ import annotations

from bench import core, screen, sim

_SCREEN_S = 10.0


def main() -> None:
    """Print the table."""
    print(f"{core.machine()}\n")
    print("| what | measured | bar |")
    print("|---|---|---|")
    for what, measured, bar in (*core.rows(), *screen.rows(_SCREEN_S), *sim.rows()):
        print(f"| {what} | {measured} | {bar} |", flush=True)


if __name__ == "__main__":
    main()
