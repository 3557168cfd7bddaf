"""Copying to the reader's clipboard, over SSH too: the terminal is asked to, by OSC 52."""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

from tui.acting.base import ActingApp
from tui.clipboard import sequence
from tui.text import clean, clean_lines, cut

MOST_BYTES: Final = 74_994
"""What every terminal that takes OSC 52 at all should take: 100,000 bytes of base64, escape sequence included.

Source: the limit that hterm's osc52.vim documents, https://chromium.googlesource.com/apps/libapps.
"""

_SHOWN_CELLS: Final = 40


@runtime_checkable
class Copies(Protocol):
    """A pane that has something to copy."""

    def copied(self) -> str:
        """What the cursor is on, as text; empty where there is nothing."""


class CopyActions(ActingApp):
    """Copies what the cursor is on."""

    def copy_to_clipboard(self, text: str) -> None:
        """Send a text to the clipboard of the reader's machine, through tmux too. Raises TooMuch."""
        if self._driver is not None:
            self._driver.write(sequence(text))

    def action_copy(self) -> None:
        """Copy what the cursor is on, and say what it was."""
        nodes = self.focused.ancestors_with_self if self.focused is not None else []
        pane = next((node for node in nodes if isinstance(node, Copies)), None)
        # What runs and models wrote is pasted into shells: nothing that acts may come along.
        text = "\n".join(clean_lines(pane.copied())) if pane is not None else ""
        size = len(text.encode())
        if not text:
            self.tell("There is nothing to copy here.")
        elif size > MOST_BYTES:
            self.tell(f"That is too long for a terminal's clipboard: {size:,} bytes, of at most {MOST_BYTES:,}.")
        else:
            self.copy_to_clipboard(text)
            self.tell(
                f"copied {len(text):,} characters: {cut(clean(text), _SHOWN_CELLS)}\n"
                "If nothing arrives, your terminal refuses OSC 52."
            )
