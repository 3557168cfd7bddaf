"""The form of a new session: choices and texts, what doctor found beside them, each refusal beside its field."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Input, Label, Static

from tui.bindings import Where, bindings_for
from tui.cli import sentence_of
from tui.create import Asked
from tui.doctor import Row
from tui.look import look_of
from tui.palette import Role, style_of
from tui.progress import Tell
from tui.screens.help import HelpScreen
from tui.text import clean
from tui.view.form import (
    Facts,
    Field,
    Note,
    Refused,
    about_executor,
    about_researcher,
    asked_of,
    command_words,
    every_field,
    fields,
    first_values,
    refusal_of,
)
from tui.widgets.choice import Choice

Start = Callable[[Asked, Tell], str]
Examine = Callable[[], Iterator[Row]]

_NOTED = {"executor": "executor-notes", "claude_endpoint": "researcher-notes"}
"""Fields with notes below them."""


class Fields(VerticalScroll, can_focus=False, inherit_bindings=False):
    """Scrolls with the focus; the arrow keys go from field to field."""


class NewSession(Screen[None]):
    """Enter starts what stands here; a session that cannot begin is refused with a sentence, and the form stays.

    Args:
        start: makes a session, starts its engine and returns its id; called in a thread.
        examine: what doctor finds, row by row; called in a thread.
        facts: what may be chosen.
    """

    PLACE: ClassVar[Where] = "form"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)

    class Started(Message):
        """A session works."""

        def __init__(self, session: str) -> None:
            super().__init__()
            self.session = session

    def __init__(self, start: Start, examine: Examine, facts: Facts) -> None:
        super().__init__()
        self._start, self._examine, self._facts = start, examine, facts
        self._values: dict[str, str] = first_values(facts)
        self._rows: list[Row] = []
        self._examined = False
        self._starting = False

    def compose(self) -> ComposeResult:
        """Every field that can be seen; those that mean nothing with the present choices are hidden."""
        with Fields(id="fields", classes="pane") as box:
            box.border_title = "new session"
            box.border_subtitle = "enter starts it"
            for field in every_field(self._facts):
                with Vertical(id=f"row-{field.name}", classes="field"):
                    with Horizontal(classes="line"):
                        yield Label(field.label, classes="label", markup=False)
                        yield self._entry(field)
                    if field.name in _NOTED:
                        yield Static(id=_NOTED[field.name], classes="notes", markup=False)
                    yield Static(id=f"wrong-{field.name}", classes="wrong", markup=False)
        yield Static(id="doing", markup=False)
        yield Footer(compact=True)

    def _entry(self, field: Field) -> Choice | Input:
        if field.choices:
            return Choice(field.choices, self._values.get(field.name, field.choices[0]), id=field.name)
        return Input(id=field.name, compact=True, select_on_focus=False)

    def on_mount(self) -> None:
        """The first choice has the focus, so that enter starts the simulation; doctor looks in the background."""
        self._arrange()
        self.set_focus(self.query_one("#executor"))
        # Not a worker: the app would wait for it before it ends, and importing torch takes seconds.
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        with contextlib.suppress(RuntimeError):  # the app has gone meanwhile
            try:
                for row in self._examine():
                    self.app.call_from_thread(self._found, row)
            except OSError as error:  # a check that fails itself is told like what it finds
                self.app.call_from_thread(self._found, Row("warn", "doctor", sentence_of(error)[0]))
            self.app.call_from_thread(self._found, None)

    def _found(self, row: Row | None) -> None:
        """Take in one of doctor's rows; None: that was all."""
        if row is None:
            self._examined = True
        else:
            self._rows.append(row)
        self._show_notes()

    def on_choice_changed(self, event: Choice.Changed) -> None:
        """Other choices, other fields."""
        self._values[str(event.choice.id)] = event.choice.chosen
        self._arrange()

    def on_input_changed(self, event: Input.Changed) -> None:
        """What is wrong with a field is forgotten while it is mended."""
        name = str(event.input.id)
        self._values[name] = event.value
        self._say_wrong(name, "")
        self._show_command()

    def on_input_submitted(self) -> None:
        """Enter in a text starts, as anywhere."""
        self.action_start()

    def action_move(self, by: int) -> None:
        """To the next field or to the one before.

        Not Textual's own order, which is that of places on the screen: fields that came into view have none yet.
        """
        names = [field.name for field in fields(self._values, self._facts)]
        at = names.index(str(self.focused.id)) if self.focused is not None and self.focused.id in names else -by
        self.set_focus(self.query_one(f"#{names[(at + by) % len(names)]}"))

    def action_choose(self, by: int) -> None:
        """Choose beside what is chosen."""
        if isinstance(self.focused, Choice):
            self.focused.step(by)

    def action_back(self) -> None:
        """To the list; what stands here stays. A session that is being started is not left alone."""
        if not self._starting:
            self.app.pop_screen()

    def action_help(self) -> None:
        """All keys."""
        self.app.push_screen(HelpScreen(self, self.focused))

    def action_start(self) -> None:
        """Start what stands here."""
        if self._starting:
            return
        self._forget_wrongs()
        asked = asked_of(self._values, self._facts)
        if isinstance(asked, Refused):
            self._refuse(asked)
            return
        self._starting = True
        self._tell(0.0, "checking…")
        self.run_worker(lambda: self._begin(asked), thread=True, group="start", exit_on_error=False)

    def _begin(self, asked: Asked) -> None:
        try:
            session = self._start(asked, lambda share, text: self.app.call_from_thread(self._tell, share, text))
        except Exception as error:  # noqa: BLE001  every refusal is read in the form, which stays
            refused = refusal_of(error, sentence_of(error)[0], asked)
            self.app.call_from_thread(self._refuse, refused)
        else:
            self.app.call_from_thread(self.post_message, self.Started(session))

    def _refuse(self, refused: Refused) -> None:
        """Say why not, beside the field where there is one, and go there."""
        self._starting = False
        self._show_command()
        sentence = clean(refused.sentence)
        sentence = sentence[:1].upper() + sentence[1:]
        if refused.field not in {field.name for field in fields(self._values, self._facts)}:
            self._say(sentence, Role.FAILED)
            return
        self._say_wrong(refused.field, sentence)
        self.set_focus(self.query_one(f"#{refused.field}"))
        wrong = self.query_one(f"#wrong-{refused.field}")
        self.call_after_refresh(lambda: self.call_after_refresh(wrong.scroll_visible, animate=False))

    def _tell(self, share: float, text: str) -> None:
        self._say(f"{clean(text)}" + (f" {share:.0%}" if share else ""), Role.WAITING)

    def _arrange(self) -> None:
        """Show the fields that belong to the choices, each with what it means when it is left empty."""
        shown = {field.name: field for field in fields(self._values, self._facts)}
        with self.app.batch_update():
            for field in every_field(self._facts):
                row = self.query_one(f"#row-{field.name}")
                row.display = field.name in shown
                if field.name in shown and not field.choices:
                    self.query_one(f"#{field.name}", Input).placeholder = shown[field.name].default
        self._forget_wrongs()
        self._show_notes()
        self._show_command()

    def _show_notes(self) -> None:
        self._show("executor-notes", about_executor(self._values, self._facts, self._rows, examined=self._examined))
        self._show("researcher-notes", about_researcher(self._values, self._facts))

    def _show(self, id_: str, notes: Iterable[Note]) -> None:
        text = Text()
        for note in notes:
            text.append(f"{note.text}\n", style_of(note.role, look_of(self.app)))
        text.rstrip()
        static = self.query_one(f"#{id_}", Static)
        static.update(text)
        static.display = bool(text)

    def _show_command(self) -> None:
        if not self._starting:
            self._say(command_words(self._values, self._facts), Role.MUTED)

    def _say(self, words: str, role: Role) -> None:
        self.query_one("#doing", Static).update(Text(words, style_of(role, look_of(self.app))))

    def _say_wrong(self, name: str, sentence: str) -> None:
        wrong = self.query_one(f"#wrong-{name}", Static)
        wrong.update(Text(sentence, style_of(Role.FAILED, look_of(self.app))))
        wrong.display = bool(sentence)

    def _forget_wrongs(self) -> None:
        for field in every_field(self._facts):
            self._say_wrong(field.name, "")
