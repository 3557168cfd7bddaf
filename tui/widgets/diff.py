"""The diff of a revision against its parent: coloured per line, signs kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tui.palette import Role
from tui.view.detail import DiffLine
from tui.widgets.scroll_lines import ScrollLines

_ROLES: Final = {
    "add": Role.OBSERVED,
    "remove": Role.FAILED,
    "hunk": Role.KEPT,
    "file": Role.MUTED,
    "same": Role.TEXT,
}


class Diff(ScrollLines):
    """Shows a unified diff."""

    def show(self, lines: Sequence[DiffLine]) -> None:
        """Show a diff; none at all is said in words."""
        self.show_lines([(line.text, _ROLES[line.kind]) for line in lines] or [("the file is unchanged", Role.MUTED)])
