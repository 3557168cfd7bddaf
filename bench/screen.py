"""Measures the screen on a pseudo-terminal: first paint, idle and busy costs at three sizes, scale, memory, keys.

Part of `python -m bench`; `python -m bench.screen` alone prints these rows.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from core.events import AnyEvent, Note
from core.journal import Journal
from tests.support.ptys import PtyProgram
from tests.support.story import Story, session, with_runs, write_journal

SIZES: Final = ((80, 24), (120, 40), (200, 60))
_CHILD: Final = """
import sys
from pathlib import Path
from tui.app import run_app
from core.sources import LiveSource
sys.exit(run_app(LiveSource(Path(sys.argv[1]), lambda: True), crash_log=Path(sys.argv[1]) / "crash.log"))
"""


class Cost(NamedTuple):
    """What the screen took: seconds to its first frame and until all events are in it, then its upkeep."""

    first_paint_s: float
    complete_s: float
    bytes_per_s: float
    cpu_percent: float
    rss_mb: float

    @property
    def upkeep(self) -> str:
        """The figures of a screen that is open."""
        return f"{self.bytes_per_s:,.0f} B/s, {self.cpu_percent:.1f} % CPU, {self.rss_mb:.0f} MB"


class Growing:
    """A journal that a measurement appends to, as an engine would. `events` counts those written at first."""

    def __init__(self, journal_dir: Path, story: Story) -> None:
        self.folder, self.story = journal_dir, story
        write_journal(journal_dir, story.events)
        self.events = len(story.events)
        self._journal = Journal(journal_dir)
        self._written = len(story.events)

    def write(self) -> None:
        """Append what the story has told since."""
        for event in self.story.events[self._written :]:
            self._journal.append(event)
        self._written = len(self.story.events)
        self._journal.commit()


class Busy(Growing):
    """Each device reports once a second, after so many experiments that have ended already."""

    def __init__(self, journal_dir: Path, *, devices: int = 16, experiments: int = 0) -> None:
        story = Story(devices=devices, progress=1)
        for _ in range(experiments):
            story.experiment()
        exp = story.propose("the same again on every device", {}, range(devices))
        self.runs = [story.start(exp, seed, f"gpu{seed}", "confirm") for seed in range(devices)]
        story.progress = 600  # from here on a run reports often
        self._share = 0
        super().__init__(journal_dir, story)

    def __call__(self) -> None:
        """One sample of every device."""
        self._share += 1
        for run in self.runs:
            self.story.advance(run, self._share)
        self.write()


def opened(journal_dir: Path, size: tuple[int, int]) -> PtyProgram:
    """The screen of a session on a terminal of `size`."""
    return PtyProgram([sys.executable, "-c", _CHILD, str(journal_dir)], *size)


def measure(
    journal_dir: Path,
    events: int,
    *,
    seconds: float,
    each_s: Callable[[], object] = lambda: None,
    size: tuple[int, int] = (120, 40),
) -> Cost:
    """Open the screen, let it settle, then watch it for so long; `each_s` runs once a second."""
    started_s = time.perf_counter()
    with opened(journal_dir, size) as program:
        program.until("val_bpb")
        first_paint_s = time.perf_counter() - started_s
        program.until(f"#{events}")
        complete_s = time.perf_counter() - started_s
        program.read(2.0)
        cpu_before_s, total, begin_s = program.cpu_s(), 0, time.perf_counter()
        while (spent_s := time.perf_counter() - begin_s) < seconds:
            each_s()
            total += program.read(min(1.0, seconds - spent_s))
        spent_s = time.perf_counter() - begin_s
        cpu_s = program.cpu_s() - cpu_before_s
        return Cost(first_paint_s, complete_s, total / spent_s, 100 * cpu_s / spent_s, program.rss_mb())


def key_to_frame_ms(folder: Path, keys: int = 100) -> tuple[float, float]:
    """Median and 95th percentile of milliseconds from a key to the first bytes of its frame, at 100 events a second.

    The key moves the cursor of the list of experiments, which always changes the screen.
    """
    busy = Busy(folder, experiments=1_000)
    waits_ms = []
    with opened(folder, (120, 40)) as program:
        program.until(f"#{busy.events}")
        program.send("4")
        program.quiet()
        for index in range(keys):
            for run in busy.runs[:10]:  # ten events every tenth of a second
                busy.story.advance(run, index % 600 + 1)
            busy.write()
            program.read(0.1)
            sent_s = time.perf_counter()
            program.send("j" if index % 40 < 20 else "k")
            program.first_byte()
            waits_ms.append(1e3 * (time.perf_counter() - sent_s))
    return statistics.median(waits_ms), statistics.quantiles(waits_ms, n=20)[-1]


def _long_talk() -> list[AnyEvent]:
    """A session with 1 MB of notes."""
    story = Story(devices=4)
    story.experiment("the baseline, replicated", runs=3)
    words = "The schedule matters more than the width, and the last five rejections all touched the width. " * 20
    for _ in range(1_000_000 // len(words) + 1):
        story.add(Note(text=words), 1.0)
    story.end()
    return story.events


def rows(seconds: float) -> list[tuple[str, str, str]]:
    """(what, measured, bar) of every figure here."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        idle, long, talk = (
            session(experiments=60, devices=16, ended=True),
            with_runs(1_000, 100_000, ended=True),
            _long_talk(),
        )
        for path, events in (("idle", idle), ("long", long), ("talk", talk)):
            write_journal(folder / path, events)
        for size in SIZES:
            words = f"{size[0]}x{size[1]}"
            cost = measure(folder / "idle", len(idle), seconds=seconds, size=size)
            if size == (120, 40):
                found.append(("first painted screen", f"{cost.first_paint_s:.2f} s", "< 1.0 s"))
            found.append((f"screen idle, {words}", cost.upkeep, "< 100 B/s, < 1 % CPU"))
            busy = Busy(folder / f"busy-{words}")
            cost = measure(busy.folder, busy.events, seconds=seconds, each_s=busy, size=size)
            bar = "< 12 kB/s, < 5 % CPU" if size == (120, 40) else ""
            found.append((f"screen with 16 busy devices at 1 Hz, {words}", cost.upkeep, bar))
        cost = measure(folder / "long", len(long), seconds=seconds)
        found.append(("screen with all of 100k events in it, start-up included", f"{cost.complete_s:.2f} s", ""))
        found.append(("the same, idle", cost.upkeep, "< 100 B/s, < 1 % CPU"))
        many = Busy(folder / "many", devices=1_024, experiments=10_000)
        cost = measure(many.folder, many.events, seconds=seconds, each_s=many)
        found.append(("screen with 1,024 busy devices at 1 Hz, 10,000 experiments", cost.upkeep, "< 10 % CPU"))
        cost = measure(folder / "talk", len(talk), seconds=seconds)
        found.append(("screen with 1 MB of reasoning, idle", cost.upkeep, "< 150 MB"))
        median_ms, worst_ms = key_to_frame_ms(folder / "keys")
        figures = f"{median_ms:.0f} / {worst_ms:.0f} ms"
        found.append(("key to painted frame at 100 events/s, median / 95 %", figures, "< 50 ms"))
    return found


if __name__ == "__main__":
    for what, measured, bar in rows(10.0):
        print(f"| {what} | {measured} | {bar} |")
