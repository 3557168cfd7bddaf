"""The command line: commands by name, loaded only when called, and how their failures are told."""

from __future__ import annotations

import importlib
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Final

import click

from tui.cli.options import screen_options

_COMMANDS: Final = {
    "run": ("tui.cli.run", "Start a session and watch it."),
    "attach": ("tui.cli.watch", "Watch a session that an engine works on."),
    "replay": ("tui.cli.watch", "Watch a session again from its beginning."),
    "fork": ("tui.cli.fork", "Start a session from a moment of another one."),
    "status": ("tui.cli.inspect", "Say where a session stands, in figures."),
    "sessions": ("tui.cli.inspect", "List the sessions."),
    "sql": ("tui.cli.inspect", "Ask DuckDB about one session or all."),
    "compare": ("tui.cli.compare", "Put sessions side by side: best confirmed over time, runs, devices, cost."),
    "export": ("tui.cli.export", "Write a session's conversations with its model as a file (ATIF)."),
    "pause": ("tui.cli.control", "Start nothing new; what runs goes on."),
    "resume": ("tui.cli.control", "Go on after a pause, or after the engine was gone."),
    "hint": ("tui.cli.control", "Say something to the researcher."),
    "cancel": ("tui.cli.control", "Cancel a run, or the open runs of an experiment or a design."),
    "drain": ("tui.cli.control", "Start nothing new on a device; what runs there finishes."),
    "stop": ("tui.cli.control", "End a session for good."),
    "delete": ("tui.cli.delete", "Remove a session's folder for good."),
    "config": ("tui.cli.config", "Say how screens look here, and why; --keys lists all keys."),
    "prepare": ("tui.cli.setup", "Prepare a corpus to train on."),
    "doctor": ("tui.cli.setup", "Check what this machine has, and say what is missing."),
}


class _LazyGroup(click.Group):
    """Knows its commands by name and one line each, so that `--help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(_COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


class UserError(Exception):
    """Something the person can mend; the text is one sentence. Exit code 1, or 2 where the call itself is wrong.

    `about` names the option of `run` that is to be mended, for a form that shows the sentence beside its field.
    """

    def __init__(self, sentence: str, exit_code: int = 1, *, about: str = "") -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
        self.about = about


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="autoresearch-tui", message="%(version)s")
@screen_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Autonomous training research in a terminal.

    A researcher edits train.py, runs it for a fixed budget on the devices there are, and keeps what evidence
    supports. Without a command: the home screen. SESSION is a name, an id or its prefix, or `last` (the default).
    """
    if ctx.invoked_subcommand is None:
        from tui.cli.home import home

        ctx.exit(home())


def run_command_line(argv: list[str]) -> int:
    """Run one command; returns its exit code: 0, 1 failed, 2 usage, 130 interrupted."""
    try:
        result: Any = cli.main(argv, prog_name="autoresearch-tui", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing to say, nobody to say it to
        return 0
    except Exception as error:  # noqa: BLE001  the one place that turns failures into sentences
        return _tell(error)
    return result if isinstance(result, int) else 0


def sentence_of(error: Exception) -> tuple[str, int]:
    """What a failure is to a person, and its exit code; of a fault of ours, the file with its traceback."""
    from core.control import EngineGone
    from core.executor import ExecutorError
    from core.journal import JournalDamaged
    from core.registry import UnknownName
    from core.session import SessionError
    from core.sql import SqlError
    from core.target import TargetError

    if isinstance(error, UserError):
        return str(error), error.exit_code
    if isinstance(error, UnknownName):
        return str(error), 2
    if isinstance(error, SessionError | ExecutorError | JournalDamaged | TargetError | EngineGone | SqlError):
        return str(error), 1
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}", 1
    with tempfile.NamedTemporaryFile("w", prefix="autoresearch-", suffix=".log", delete=False) as log:
        traceback.print_exception(error, file=log)
    return f"an error of this program ({type(error).__name__}); the traceback is in {Path(log.name)}", 1


def _tell(error: Exception) -> int:
    """One sentence on stderr; returns the exit code."""
    from tui.text import printable

    sentence, exit_code = sentence_of(error)
    sys.stderr.write(f"autoresearch-tui: {printable(sentence)}\n")
    return exit_code
