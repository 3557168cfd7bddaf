"""The one table of keys: it makes the bindings of every screen and widget, the help screen and the palette."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from textual.binding import Binding, BindingType
from textual.keys import format_key

Where = Literal[
    "everywhere",
    "terminal",
    "time",
    "panes",
    "curve",
    "devices",
    "reasoning",
    "experiments",
    "table",
    "find",
    "effects",
    "experiment",
    "view",
    "source",
    "sql",
    "query",
    "schema",
    "home",
    "form",
]  # in the order of the help screen

TITLES: Final[dict[Where, str]] = {
    "everywhere": "Everywhere",
    "terminal": "Terminal",
    "time": "Time",
    "panes": "Panes",
    "curve": "Curve",
    "devices": "Devices",
    "reasoning": "Reasoning",
    "experiments": "Experiments",
    "table": "Lists",
    "find": "Search",
    "effects": "Effects",
    "experiment": "Experiment",
    "view": "Effects screen",
    "source": "A revision's train.py",
    "sql": "SQL console",
    "query": "Query",
    "schema": "Tables",
    "home": "List of sessions",
    "form": "New session",
}
"""What each place is called on the help screen. A screen or widget with keys of its own says its place as `PLACE`."""


class Key(NamedTuple):
    """One action and the keys that call it; `where.name` is what a person's keymap calls it."""

    name: str
    keys: str
    action: str
    says: str
    where: Where
    footer: str = ""
    """The word for the footer; empty keeps the key out of it."""

    @property
    def id(self) -> str:
        """The action's name in a keymap."""
        return f"{self.where}.{self.name}"

    @property
    def shown(self) -> str:
        """How the keys are written for a reader; an action without a key is in the palette."""
        return keys_words(self.keys or "ctrl+p")


KEYS: Final = (
    Key("help", "question_mark", "help", "help", "everywhere", footer="help"),
    Key("detach", "q", "detach", "detach; the engine goes on", "everywhere", footer="detach"),
    Key("stop", "Q", "stop", "stop the session", "everywhere"),
    Key("pause", "p", "pause", "pause or resume", "everywhere", footer="pause"),
    Key("hint", "i", "hint", "hint to the researcher", "everywhere", footer="hint"),
    Key("resume", "r", "resume", "resume when the engine is gone", "everywhere"),
    Key("cancel", "X", "cancel", "cancel a run, an experiment or a design", "everywhere"),
    Key("drain", "", "drain", "drain a device, or give it back, by name", "everywhere"),
    Key("clear", "escape", "clear_orders", "put away what became of commands", "everywhere"),
    Key("effects", "e", "effects", "effects of the designs", "everywhere"),
    Key("costs", "c", "costs", "costs and limits", "everywhere"),
    Key("copy", "y", "copy", "copy what the cursor is on", "everywhere"),
    Key("sql", "s", "sql", "SQL console", "everywhere"),
    Key("fork", "F", "fork", "fork: a new session from this moment", "everywhere"),
    Key("theme", "t", "theme", "next theme: dark, light, contrast, ansi", "terminal"),
    Key("redraw", "ctrl+l", "redraw", "draw all anew", "terminal"),
    Key("suspend", "ctrl+z", "suspend_process", "back to the shell; fg returns", "terminal"),
    Key("play", "space", "play", "play or hold", "time", footer="play"),
    Key("event_back", "comma", "step('event',-1)", "one event back", "time"),
    Key("event_on", "full_stop", "step('event',1)", "one event on", "time"),
    Key("run_back", "left_parenthesis", "step('run',-1)", "to the run end before", "time"),
    Key("run_on", "right_parenthesis", "step('run',1)", "to the next run end", "time"),
    Key("verdict_back", "left_curly_bracket", "step('verdict',-1)", "to the verdict before", "time"),
    Key("verdict_on", "right_curly_bracket", "step('verdict',1)", "to the next verdict", "time"),
    Key("slower", "less_than_sign", "speed(-1)", "slower: a replay or a simulation", "time"),
    Key("faster", "greater_than_sign", "speed(1)", "faster: a replay or a simulation", "time"),
    Key("seek_back", "H", "seek(-1)", "1 % back", "time"),
    Key("seek_on", "L", "seek(1)", "1 % on", "time"),
    Key("go", "T", "go", "go to a time, an event or a run", "time"),
    Key("end", "E", "end", "to the end, or back to live", "time"),
    Key("first", "1", "pane(1)", "first pane", "panes"),
    Key("second", "2", "pane(2)", "second pane", "panes"),
    Key("third", "3", "pane(3)", "third pane", "panes"),
    Key("fourth", "4", "pane(4)", "fourth pane", "panes"),
    Key("fifth", "5", "pane(5)", "fifth pane", "panes"),
    Key("sixth", "6", "pane(6)", "sixth pane", "panes"),
    Key("zoom", "z", "zoom", "give the pane all the room", "panes", footer="zoom"),
    Key("previous", "h,left", "step(-1)", "previous run", "curve"),
    Key("next", "l,right", "step(1)", "next run", "curve"),
    Key("best", "b", "best", "best run", "curve"),
    Key("select", "enter", "select", "open the run", "curve"),
    Key("zoom_in", "plus,equals_sign", "zoom(True)", "zoom in", "curve"),
    Key("zoom_out", "minus", "zoom(False)", "zoom out", "curve"),
    Key("fit", "0", "fit", "fit all", "curve"),
    Key("pan_left", "left_square_bracket", "pan(-1)", "pan left", "curve"),
    Key("pan_right", "right_square_bracket", "pan(1)", "pan right", "curve"),
    Key("pan_up", "k,up", "shift(1)", "pan up, when zoomed", "curve"),
    Key("pan_down", "j,down", "shift(-1)", "pan down, when zoomed", "curve"),
    Key("axis", "x", "axis", "runs, time or device-hours", "curve"),
    Key("focus", "m", "focus", "most scores, the better half, or all", "curve"),
    Key("others", "o", "others", "show or hide other device classes", "curve"),
    Key("left", "h,left", "move(-1, 0)", "previous device", "devices"),
    Key("right", "l,right", "move(1, 0)", "next device", "devices"),
    Key("down", "j,down", "move(0, 1)", "device below", "devices"),
    Key("up", "k,up", "move(0, -1)", "device above", "devices"),
    Key("first", "g,home", "edge('first')", "first device", "devices"),
    Key("last", "G,end", "edge('last')", "last device", "devices"),
    Key("half_page_down", "ctrl+d", "half_page(1)", "half a page down", "devices"),
    Key("half_page_up", "ctrl+u", "half_page(-1)", "half a page up", "devices"),
    Key("page_down", "pagedown", "half_page(2)", "page down", "devices"),
    Key("page_up", "pageup", "half_page(-2)", "page up", "devices"),
    Key("before", "left_square_bracket", "step(-1)", "a device back, within a node too", "devices"),
    Key("after", "right_square_bracket", "step(1)", "a device on, within a node too", "devices"),
    Key("level", "v", "level", "tiles, rows, map, nodes or auto", "devices"),
    Key("select", "enter", "select", "open its experiment", "devices"),
    Key("drain", "d", "drain", "drain the device, or give it back", "devices"),
    Key("up", "up,k", "move(-1)", "block before", "reasoning"),
    Key("down", "down,j", "move(1)", "next block", "reasoning"),
    Key("first", "home,g", "edge('first')", "first block", "reasoning"),
    Key("last", "end,G", "edge('last')", "last block, and follow", "reasoning"),
    Key("fold", "enter", "fold", "fold or unfold", "reasoning"),
    Key("open", "o", "open", "open the experiment", "reasoning"),
    Key("order", "o", "order", "next order", "experiments"),
    Key("reverse", "O", "reverse", "reverse the order", "experiments"),
    Key("filter", "slash", "filter", "filter: words, kept, <0.98, design:x, -not", "experiments", footer="filter"),
    Key("group", "d", "group", "by design, or not", "experiments"),
    Key("down", "j,down", "move(1)", "down", "table"),
    Key("up", "k,up", "move(-1)", "up", "table"),
    Key("top", "g,home", "top", "first row", "table"),
    Key("bottom", "G,end", "bottom", "last row", "table"),
    Key("half_page_down", "ctrl+d", "half_page(1)", "half a page down", "table"),
    Key("half_page_up", "ctrl+u", "half_page(-1)", "half a page up", "table"),
    Key("page_down", "pagedown", "half_page(2)", "page down", "table"),
    Key("page_up", "pageup", "half_page(-2)", "page up", "table"),
    Key("left", "h,left", "shift(-1)", "left", "table"),
    Key("right", "l,right", "shift(1)", "right", "table"),
    Key("select", "enter", "select", "open the row", "table"),
    Key("open", "slash", "find", "search; esc ends it", "find", footer="search"),
    Key("next", "n", "find_next(1)", "next match", "find"),
    Key("previous", "N", "find_next(-1)", "match before", "find"),
    Key("design_back", "h,left,left_square_bracket", "design(-1)", "design before", "effects"),
    Key("design_on", "l,right,right_square_bracket", "design(1)", "next design", "effects", footer="design"),
    Key("pair_back", "k,up", "pair(-1)", "pair of knobs before", "effects"),
    Key("pair_on", "j,down", "pair(1)", "next pair of knobs", "effects", footer="pair"),
    Key("page_down", "pagedown,ctrl+d", "page(1)", "further main effects", "effects"),
    Key("page_up", "pageup,ctrl+u", "page(-1)", "main effects before", "effects"),
    Key("back", "escape", "back", "go back", "experiment", footer="back"),
    Key("back", "escape", "back", "go back", "view", footer="back"),
    Key("next", "right_square_bracket", "neighbour(1)", "next experiment", "experiment"),
    Key("previous", "left_square_bracket", "neighbour(-1)", "experiment before", "experiment"),
    Key("source", "f", "source", "the whole train.py", "experiment", footer="train.py"),
    Key("save", "w", "save", "save its train.py as a file", "experiment"),
    Key("save", "w", "save", "save as a file", "source"),
    Key("run", "f5", "run", "run the query", "sql", footer="run"),
    Key("cancel", "ctrl+c", "cancel", "stop the query", "sql"),
    Key("back", "escape", "back", "stop it; to the answer; to the session", "sql", footer="back"),
    Key("save", "w", "save", "save all rows to a file", "sql", footer="save"),
    Key("copy", "y", "copy(False)", "copy the row", "sql", footer="copy"),
    Key("copy_all", "Y", "copy(True)", "copy all rows", "sql"),
    Key("row", "v", "row", "the row in full", "sql", footer="row"),
    Key("moment", "at", "moment", "go to the moment of the row", "sql"),
    Key("submit", "ctrl+r,ctrl+j,ctrl+enter", "submit", "run it, as f5 does", "query"),
    Key("older", "ctrl+up,alt+up", "walk(-1)", "the query before", "query"),
    Key("newer", "ctrl+down,alt+down", "walk(1)", "the query after", "query"),
    Key("unfold", "o,l,right", "unfold(True)", "show the columns", "schema"),
    Key("fold", "h,left", "unfold(False)", "hide the columns", "schema"),
    Key("new", "n", "new", "a new session", "home", footer="new"),
    Key("replay", "space", "replay", "replay from the start", "home", footer="replay"),
    Key("resume", "r", "resume", "resume: engine gone, or paused", "home", footer="resume"),
    Key("delete", "D,delete", "delete", "delete a session for good", "home", footer="delete"),
    Key("filter", "slash", "filter", "filter by words of a row", "home", footer="filter"),
    Key("order", "o", "order", "next sort order", "home", footer="sort"),
    Key("reverse", "O", "reverse", "reverse the order", "home"),
    Key("help", "question_mark", "help", "help", "home", footer="help"),
    Key("quit", "q,escape", "leave", "leave; a filter goes first", "home", footer="leave"),
    Key("start", "enter", "start", "start the session", "form", footer="start"),
    Key("next", "down,tab", "move(1)", "next field", "form", footer="field"),
    Key("previous", "up,shift+tab", "move(-1)", "field before", "form"),
    Key("left", "left", "choose(-1)", "choice before", "form"),
    Key("right", "right,space", "choose(1)", "next choice", "form", footer="choice"),
    Key("help", "f1", "help", "help", "form", footer="help"),
    Key("back", "escape", "back", "back to the list", "form", footer="back"),
)


def bindings_for(*places: Where) -> list[BindingType]:
    """Textual's bindings of the named places, from the table."""
    return [
        Binding(key.keys, key.action, key.footer or key.says, show=bool(key.footer), key_display=key.shown, id=key.id)
        for key in KEYS
        if key.where in places and key.keys
    ]


def places_in(node: object) -> list[Where]:
    """Where in the table a screen or widget stands: its own place first, then those that it inherits."""
    return [cls.__dict__["PLACE"] for cls in type(node).__mro__ if "PLACE" in cls.__dict__]


def keys_words(keys: str) -> str:
    """Textual's names of keys, parted by commas, as a reader knows them: `question_mark` is ?."""
    return " ".join("enter" if key == "enter" else format_key(key) for key in keys.split(","))
