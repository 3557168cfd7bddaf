"""The engine's loop: record an input, decide until all is settled, then perform what was decided, in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence

from core.bench import BenchClosed, Researcher
from core.clock import Clock
from core.engine.bench import EngineBench
from core.engine.broadcast import Broadcast
from core.engine.convert import event_of, notice_of
from core.engine.decide import decide
from core.engine.opening import Opening
from core.engine.recorder import Recorder
from core.events import (
    AnyEvent,
    CancelRequested,
    DeviceLost,
    DeviceSeen,
    LimitHit,
    ResearchEnded,
    RunIntent,
    RunWaiting,
    SessionEnded,
)
from core.executor import (
    AttemptSpec,
    Device,
    Executor,
    ExecutorError,
    ExecutorEvent,
    Finished,
    NeverStarted,
    Notice,
    OpenAttempt,
    Progress,
    Started,
    Waiting,
)
from core.executor import DeviceLost as LostPayload
from core.executor import DeviceSeen as SeenPayload
from core.limits import since_fork, totals
from core.revisions import Revisions
from core.sql import SqlError, Table
from core.state import Run, SessionState

_TICK_KEY = ("engine-limit", 0, 0)


async def _no_tables(sql: str, max_rows: int) -> Table:  # noqa: ARG001
    raise SqlError("this engine keeps no tables")


class Engine:
    """Drives one session from an opened journal to its end, or to the engine's own end.

    Args:
        state: the fold of the journal so far.
        recorder, clock, executor, researcher: see there.
        opening: what a new session starts with.
    """

    def __init__(
        self,
        state: SessionState,
        recorder: Recorder,
        clock: Clock,
        executor: Executor,
        researcher: Researcher,
        opening: Opening,
    ) -> None:
        self.state = state
        self.recorder = recorder
        self.clock = clock
        self.revisions = Revisions(state)
        self.broadcast = Broadcast()
        self.query: Callable[[str, int], Awaitable[Table]] = _no_tables
        """Asks the session's tables, once the process that keeps them is there: (statement, most rows)."""
        self._executor = executor
        self._researcher = researcher
        self._opening = opening
        self._effects: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._over = asyncio.Event()
        self._failure: BaseException | None = None
        self._waiters: list[Callable[[], None]] = []
        recorder.on_disk = self.settle

    async def open(self) -> None:
        """Find the devices and record how the session begins. Raises ExecutorError."""
        self.clock.touch()
        devices = await self._executor.open(self.on_executor_events)
        for event in self._opening.events(self.state):
            self.recorder.record(event)
        self._meet(devices)
        self._check_reference_class()
        for event in self._opening.baseline(self.state):
            self.recorder.record(event)
        await self.recorder.durable()

    async def run(self) -> None:
        """Work until the session ends, or until `leave`. Raises what any task or callback raised."""
        asyncio.get_running_loop().set_exception_handler(self._on_callback_error)
        said = self.state.now.notice
        await self._executor.adopt(self._open_attempts(), {d.device: d.seq for d in self.state.now.devices.values()})
        if said is not None and self.state.now.notice is said:  # of an engine that is gone; this one says it anew
            self._take_notice(Notice(""))
        for run in self.state.in_flight:
            if run.cancel is not None:  # asked for by an engine that may not have lived to pass it on
                self._cancel(run.attempt, run.cancel)
        self._arm_limit()
        self.settle()
        tasks = [asyncio.create_task(self._perform()), asyncio.create_task(self._research())]
        for task in tasks:
            task.add_done_callback(self._on_task_done)
        await self._over.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure
        # Nothing is cleaned up that only the world still remembers.
        safe = await self.recorder.durable()
        await self._executor.close(kill=self.state.now.ended is not None and safe)
        await self.recorder.durable()

    async def read_log(self, attempt: str, max_bytes: int) -> bytes:
        """The end of what an attempt printed, as far as its executor keeps it."""
        return await self._executor.read_log(attempt, max_bytes)

    def leave(self) -> None:
        """End the engine but not the session: attempts go on, and a later engine adopts them.

        What a full disk keeps from being durable by then is seen again by that engine.
        """
        self.recorder.abandon()
        self._over.set()

    def take(self, event: AnyEvent) -> None:
        """Record an outside input at the present moment, and act on it."""
        self.clock.touch()
        self.recorder.record(event)
        self._act(event)
        self.settle()

    def settle(self) -> None:
        """Decide until nothing is left to decide; queue the side effects; wake whoever waits."""
        while (event := decide(self.state)) is not None:
            self.recorder.record(event)
            self._act(event)
        self._keep_time()
        for wake in list(self._waiters):
            wake()

    def on_executor_events(self, events: Sequence[ExecutorEvent]) -> None:
        """Take what the executor saw, in its order."""
        self.clock.touch()
        for event in events:
            self._take_executor_event(event)
        self.settle()

    @contextlib.contextmanager
    def woken(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake` after every settled input, while in the context."""
        self._waiters.append(wake)
        try:
            yield
        finally:
            self._waiters.remove(wake)

    # -- deciding and acting

    def _act(self, event: AnyEvent) -> None:
        match event:
            case RunIntent():
                self._effects.put_nowait(lambda: self._start(event))
            case CancelRequested() if event.attempt:
                self._cancel(event.attempt, event.reason)
            case SessionEnded():
                self.clock.stop()
                self._over.set()
            case _:
                pass

    def _cancel(self, attempt: str, reason: str) -> None:
        self._effects.put_nowait(lambda: self._executor.cancel(attempt, reason))

    async def _perform(self) -> None:
        """Perform side effects one after the other; facts that precede them are durable first."""
        while True:
            effect = await self._effects.get()
            if self._executor.external and not await self.recorder.durable():
                return
            await effect()

    async def _start(self, intent: RunIntent) -> None:
        run = self.state.now.runs.get(intent.run)
        if run is not None and run.attempt == intent.attempt:
            await self._executor.start(self._spec(run))

    def _spec(self, run: Run) -> AttemptSpec:
        proposal, started = self.state.experiment(run.exp), self.state.now.started
        if proposal is None or started is None:
            raise AssertionError(f"run {run.run} of an experiment that was never proposed")
        return AttemptSpec(
            run=run.run,
            attempt=run.attempt,
            device=run.device,
            device_class=run.device_class,
            revision=proposal.revision,
            source=self.revisions.text(proposal.revision),
            seed=run.seed,
            budget_s=started.target.budget_s,
            intent_t_s=run.intent_t_s or 0.0,
        )

    def _open_attempts(self) -> list[OpenAttempt]:
        open_runs = [run for run in self.state.now.runs.values() if run.status in ("starting", "running")]
        return [OpenAttempt(self._spec(run), run.seq, run.status == "running") for run in open_runs]

    # -- inputs

    def _meet(self, devices: Sequence[Device]) -> None:
        """Record devices that are new or back, and those that are gone since the last engine.

        A world inside the engine stood still with it: there, only what was never recorded is news.
        """
        present = {device.device: device for device in devices}
        for device in devices:
            if self._executor.external or device.device not in self.state.now.devices:
                self._see(device.device, SeenPayload(device.cls, device.node, device.memory_mb))
        if not self._executor.external:
            return
        for known in list(self.state.now.devices.values()):
            if known.up and known.device not in present:
                self._lose(known.device, "not there when the engine started")

    def _check_reference_class(self) -> None:
        """Without a device of the class that all evidence refers to, nothing could be confirmed: better not begin."""
        cls = self.state.reference_class() if self._executor.external else None
        up = sorted({device.cls for device in self.state.now.devices.values() if device.up})
        if cls is not None and cls not in up:
            raise ExecutorError(
                f"this session measures on {cls}, and there is none here now (there is: {', '.join(up) or 'nothing'}); "
                "resume it where there is one"
            )

    def _see(self, name: str, seen: SeenPayload) -> None:
        known = self.state.now.devices.get(name)
        same = known is not None and (known.cls, known.memory_mb, known.node) == (seen.cls, seen.memory_mb, seen.node)
        if known is not None and known.up and same:
            return
        seq = known.seq + 1 if known is not None else 1
        self.recorder.record(DeviceSeen(device=name, seq=seq, cls=seen.cls, node=seen.node, memory_mb=seen.memory_mb))

    def _lose(self, name: str, reason: str) -> None:
        known = self.state.now.devices.get(name)
        if known is not None and known.up:
            self.recorder.record(DeviceLost(device=name, seq=known.seq + 1, reason=reason))

    def _take_executor_event(self, event: ExecutorEvent) -> None:
        match event.payload:
            case SeenPayload():
                self._see(event.subject, event.payload)
            case LostPayload():
                self._lose(event.subject, event.payload.reason)
            case NeverStarted():
                self._start_again(event.subject)
            case Notice():
                self._take_notice(event.payload)
            case Started() | Waiting() | Progress() | Finished():
                self._take_attempt_event(event.subject, event.seq, event.payload)

    def _take_notice(self, payload: Notice) -> None:
        event, known = notice_of(payload), self.state.now.notice
        if (event.text, event.text and event.level) != (("", "") if known is None else (known.text, known.level)):
            self.recorder.record(event)

    def _start_again(self, attempt: str) -> None:
        run = self.state.now.runs.get(attempt.partition(".")[0])
        if run is not None and run.attempt == attempt:
            spec = self._spec(run)
            self._effects.put_nowait(lambda: self._executor.start(spec))

    def _take_attempt_event(self, attempt: str, seq: int, payload: Started | Waiting | Progress | Finished) -> None:
        run = self.state.now.runs.get(attempt.partition(".")[0])
        if run is None or run.attempt != attempt or seq <= run.seq or run.status == "queued":
            return  # seen before, or of an attempt that is history
        event = event_of(run.run, attempt, seq, payload, stopped_early=run.stopped_early)
        known = run.status == "starting" and run.waiting_t_s is not None
        if known and isinstance(event, RunWaiting) and (event.reason, event.held) == (run.waiting, run.held):
            return  # it still waits for the same
        self.recorder.record(event)
        if isinstance(payload, Finished) and self._executor.external:
            self._effects.put_nowait(lambda: self._executor.release(attempt))

    # -- time

    def _keep_time(self) -> None:
        """A pause stops the session's time once nothing runs any more; a full disk stops a world of our own at once."""
        lost_on_disk = "disk" in self.state.now.limits_hit and not self._executor.external
        if lost_on_disk or (self.state.now.paused and not self.state.flying):
            self.clock.pause()
        else:
            self.clock.resume()

    def _arm_limit(self) -> None:
        """Look again when the wall-time limit begins to bind, even if nothing else happens."""
        total = totals(self.state).hours
        if total is not None:
            self.clock.call_at(total * 3600.0, _TICK_KEY, self._time_is_up)

    def _time_is_up(self) -> None:
        started = self.state.now.started
        if "hours" not in self.state.now.limits_hit and self.state.now.ended is None and started is not None:
            self.take(LimitHit(limit="hours", detail=f"{started.limits.hours:.4g} h are over{since_fork(self.state)}"))

    # -- research

    async def _research(self) -> None:
        if self.state.now.research_ended is not None:
            return
        try:
            reason = await self._researcher.research(EngineBench(self))
        except BenchClosed:
            return
        self.take(ResearchEnded(reason=reason))

    # -- failure

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._fail(task.exception())

    def _on_callback_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        refused = "socket" in context and isinstance(error, OSError)  # too many open connections: theirs to mend
        if isinstance(error, BaseException) and not refused:
            self._fail(error)
        else:
            loop.default_exception_handler(context)

    def _fail(self, error: BaseException | None) -> None:
        if self._failure is None:
            self._failure = error
        self._over.set()
