"""The whole train.py of a revision, with line numbers: to be read, searched, copied, and taken home as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen

from tui.bindings import Where, bindings_for
from tui.palette import Role
from tui.screens.ask import AskText
from tui.text import clean_lines
from tui.widgets.scroll_lines import ScrollLines


class SourceLines(ScrollLines):
    """A source text; what is copied of it has no line numbers."""

    def __init__(self, text: str, title: str) -> None:
        super().__init__(id="source-lines")
        self._text = clean_lines(text.rstrip("\n"))
        self.border_title = Text(title)

    def on_mount(self) -> None:
        """Show the text."""
        digits = len(str(len(self._text)))
        self.show_lines([(f"{n:>{digits}}  {line}", Role.TEXT) for n, line in enumerate(self._text, start=1)])

    def copied(self) -> str:
        """The line of the present match, or else the whole text."""
        return self._text[self._match[0]] if self._match is not None else "\n".join(self._text)


class SourceScreen(ModalScreen[None]):
    """Shows one revision's file.

    Args:
        exp: the experiment it belongs to.
        revision: its name.
        text: the file.
    """

    PLACE: ClassVar[Where] = "source"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f,q", "dismiss", "back"), *bindings_for(PLACE)]

    def __init__(self, exp: str, revision: str, text: str) -> None:
        super().__init__()
        self._exp, self._revision, self._text = exp, revision, text

    def compose(self) -> ComposeResult:
        """The text over the whole screen."""
        yield SourceLines(self._text, f"train.py of {self._exp}, revision {self._revision[:12]}")

    def action_save(self) -> None:
        """Take the file home."""
        ask_where_to_save(self, self._exp, self._text)


def ask_where_to_save(screen: Screen[Any], exp: str, text: str) -> None:
    """Ask for a file name, and write a text there. A file that is there already stays as it is."""

    def answer(name: str | None) -> None:
        if name:
            screen.notify(written(Path(name).expanduser(), text), markup=False)

    screen.app.push_screen(AskText(f"Save the train.py of {exp} as", f"train-{exp}.py"), answer)


def written(path: Path, text: str) -> str:
    """Write a new file; returns a sentence that says how it went."""
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        return f"{path} is there already: nothing was written. Choose another name."
    except OSError as error:
        return f"{path} could not be written: {error.strerror or error}."
    return f"Saved as {path.absolute()}"
