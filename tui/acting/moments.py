"""Actions on a session's time: play, step, seek, go back to live."""

from __future__ import annotations

from typing import Literal

from core.moment import FORMS, MomentError, moment_of
from core.replay import Mark, ReplaySource
from tui.acting.base import ActingApp
from tui.messages import MomentWanted
from tui.screens.ask import AskText
from tui.widgets.replay_bar import ReplayBar


class TimeActions(ActingApp):
    """Moves the moment on show; the first move away from a live session holds it as a replay."""

    def action_play(self) -> None:
        """Let a replay's time flow or hold it; a live screen is held at this moment."""
        was_live = self.source.mode == "live"
        replay = self.replay()
        replay.play(not replay.playing and not was_live)
        self.show_source()

    def action_step(self, kind: Mark, direction: Literal[-1, 1]) -> None:
        """Go to the next or previous event, run end or verdict."""
        self.replay().step(kind, direction)
        self.show_source()

    def action_speed(self, direction: Literal[-1, 1]) -> None:
        """Replay, or let a simulated session pass, faster or slower."""
        if self.pace_live(direction):
            return
        self.replay().change_speed(direction)
        self.show_source()

    def action_seek(self, percent: int) -> None:
        """Go back or on by a share of the session's time."""
        replay = self.replay()
        replay.seek_time(replay.now_s + replay.span_s * percent / 100)
        self.show_source()

    def action_go(self) -> None:
        """Ask for a moment and go there; a live screen is held at it."""

        def answer(text: str | None) -> None:
            if not text:
                return
            replay = self.replay()
            try:
                replay.seek(moment_of(text, replay.history.head, replay.now_s))
            except MomentError as error:
                self.tell(str(error), severity="error")
            self.show_source()

        self.push_screen(AskText(f"Go to: {FORMS}"), answer)

    def action_end(self) -> None:
        """Go to the end of a recording, or back to the live session."""
        if self.live is not None:
            self.source = self.live
        elif isinstance(self.source, ReplaySource):
            self.source.go_to_end()
        self.show_source()

    def on_replay_bar_seek_requested(self, event: ReplayBar.SeekRequested) -> None:
        """A click on the bar."""
        self.replay().seek_fraction(event.fraction)
        self.show_source()

    def on_moment_wanted(self, event: MomentWanted) -> None:
        """Something on the screen names a moment that is to be seen."""
        if event.n is None:
            self.replay().seek_time(event.t_s)
        else:
            self.replay().seek_event(event.n)
        self.show_source()

    def replay(self) -> ReplaySource:
        """The replay that is on, or one of the live session held at this moment."""
        if isinstance(self.source, ReplaySource):
            return self.source
        assert self.live is not None
        self.source = self.live.replay()
        return self.source
