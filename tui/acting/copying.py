"""Copying to the reader's clipboard, over SSH too: the terminal is asked to, by OSC 52."""

from __future__ import annotations

import base64
import os
from typing import Final, Protocol, runtime_checkable

from tui.acting.base import ActingApp
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
        """Send a text to the clipboard of the reader's machine.

        Within tmux it is sent twice: tmux takes the first where `set-clipboard` is on, and hands the second through to
        its own terminal where `allow-passthrough` is on.
        """
        super().copy_to_clipboard(text)
        if self._driver is not None and "TMUX" in os.environ:
            encoded = base64.b64encode(text.encode()).decode("ascii")
            self._driver.write(f"\x1bPtmux;\x1b\x1b]52;c;{encoded}\x07\x1b\\")

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
