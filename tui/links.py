"""Hyperlinks in printed text, only where the terminal is known to understand them, only ever to files of ours."""

from __future__ import annotations

import socket
from pathlib import Path

from rich.style import Style
from rich.text import Text

from tui.terminal import over_ssh, shows_links


def file_link(path: Path) -> Text:
    """A path that opens the file where a click can: not over SSH, where it lies on another machine."""
    if not shows_links() or over_ssh():
        return Text(str(path))
    host = socket.gethostname()  # terminals open only files of their own host
    return Text(str(path), Style(link=path.absolute().as_uri().replace("file://", f"file://{host}", 1)))
