"""The engine's process: `python -P -m core.engine SESSION_FOLDER`, started detached by `run` and `resume`.

With `--stop` it ends a session whose engine is gone: it starts nothing, and cancels what still runs. With
`--speed max|N` a simulated session goes on at another speed than it was started with.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import EllipsisType

import msgspec

from core.bench import ResearcherConfig
from core.clock import Clock, RealClock, parse_speed
from core.collector import collect_rarely
from core.control import EngineGone
from core.engine.loop import Engine
from core.engine.opening import Opening
from core.engine.recorder import Recorder
from core.engine.server import ControlServer
from core.events import Command, SessionStarted, Target
from core.executor import ExecutorConfig, ExecutorError
from core.figures import figures_of, keep_figures, stamp_of
from core.fork import fold_checked
from core.journal import DiskFull, Journal, JournalBroken, JournalDamaged
from core.projection.client import Projection, ProjectionFailed
from core.registry import UnknownName, clock_factory, executor_factory, researcher_factory
from core.secrets import take_secrets
from core.session import SIMULATED_EPOCH_S, EngineInfo, SessionConfig, SessionError, SessionFolder
from core.sql import SqlError, Table, query
from core.state import SessionState
from core.target import TargetError, read_source, sha256_of
from core.version import installed_version

_KNOWN = (
    SessionError,
    ExecutorError,
    JournalDamaged,
    JournalBroken,
    DiskFull,
    TargetError,
    UnknownName,
    EngineGone,
    OSError,
)


def main(argv: list[str]) -> int:
    """Work on a session until it ends. Exit codes: 0 ended or left, 1 failed, 2 usage."""
    parser = argparse.ArgumentParser(prog="python -P -m core.engine")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--speed", type=parse_speed, default=...)
    parser.add_argument("--secrets", action="store_true", help="keys come as JSON on standard input")
    asked = parser.parse_args(argv)
    folder = SessionFolder(asked.folder.absolute())
    os.umask(0o077)
    collect_rarely()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a dropped SSH link is nothing to an engine
    try:
        with folder.lock():
            return _work_and_tell(folder, asked)
    except SessionError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _work_and_tell(folder: SessionFolder, asked: argparse.Namespace) -> int:
    try:
        return _work(folder, asked)
    except _KNOWN as error:
        sentence = str(error)
    except BaseException as error:  # noqa: BLE001  the engine's last words, whatever ended it
        traceback.print_exc()
        sentence = f"the engine failed: {type(error).__name__}: {error}; the traceback is in {folder.log_path}"
    sys.stderr.write(f"{sentence}\n")
    folder.write(folder.engine_path, _info("", error=sentence))
    return 1


def _work(folder: SessionFolder, asked: argparse.Namespace) -> int:
    """Fold the journal, then live in the event loop of the session's clock."""
    secrets = take_secrets(sys.stdin.buffer if asked.secrets else None)
    config = folder.config()
    state = SessionState()
    journal = Journal(folder.journal_dir, on_event=lambda event: fold_checked(state, event))
    if journal.cut_bytes:
        sys.stderr.write(f"cut a torn tail of {journal.cut_bytes} bytes off the journal\n")
    _check(folder, config, state)
    clock = _clock(config, state.now.t_s, asked.speed)
    engine = _assemble(folder, config, state, journal, clock, secrets)
    with asyncio.Runner(loop_factory=clock.event_loop) as runner:
        return runner.run(_live(folder, engine, stop=asked.stop))


def _clock(config: SessionConfig, start_s: float, speed: float | EllipsisType | None) -> Clock:
    if not config.simulated:
        return RealClock(start_s)
    wanted = config.speed if isinstance(speed, EllipsisType) else speed
    return clock_factory("virtual")(start_s, wanted, config.most_speed)


async def _live(folder: SessionFolder, engine: Engine, *, stop: bool) -> int:
    await engine.open()
    if stop:
        engine.take(Command(client=f"engine-{os.getpid()}", verb="stop", arg="now"))
    projection = Projection(folder.path)
    await projection.start()
    engine.query = lambda sql, max_rows: _query(engine, projection, folder.path, sql, max_rows)
    server = ControlServer(engine, folder.socket_path, installed_version(), lambda: _publish(engine, projection))
    await server.open()
    folder.write(folder.engine_path, _info(str(folder.socket_path)))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, engine.leave)
    try:
        await engine.run()
    finally:
        await server.close()
        try:
            engine.recorder.close()
            keep_figures(folder, figures_of(engine.state, engine_alive=False), stamp_of(folder))
        finally:
            await projection.close()
            folder.write(folder.engine_path, _info(""))
    return 1 if engine.state.status == "failed" else 0


def _check(folder: SessionFolder, config: SessionConfig, state: SessionState) -> None:
    """Refuse to go on where that would lie about what was measured. Raises SessionError."""
    if state.now.ended is not None:
        raise SessionError(f"session {config.name} has ended ({state.now.ended.reason}); 'replay' shows it")
    if state.now.n == 0 and any(folder.runs_dir.glob("*")):
        raise SessionError(
            f"the journal of session {config.name} in {folder.journal_dir} is missing or empty, yet attempts ran: "
            "restore it from a backup, or start a new session"
        )
    if state.now.unknown_events:
        raise SessionError(
            f"session {config.name} was written by a newer version of autoresearch-tui: upgrade to go on with it; "
            "'replay' shows what this version understands"
        )


def _assemble(
    folder: SessionFolder,
    config: SessionConfig,
    state: SessionState,
    journal: Journal,
    clock: Clock,
    secrets: dict[str, str],
) -> Engine:
    target_dir = Path(config.target_dir)
    source = read_source(target_dir / "train.py", config.overrides)
    executor = executor_factory(config.executor)(
        ExecutorConfig(
            session=config.session,
            session_dir=folder.path,
            target_dir=target_dir,
            corpus_dir=Path(config.corpus_dir),
            python=config.python,
            seed=config.seed,
            clock=clock,
            budget_s=config.budget_s,
            budget_kind=config.budget_kind,
            seq_len=config.seq_len,
            eval_tokens=config.eval_tokens,
            gpus=config.gpus,
            sandbox=config.sandbox,
            options={**config.options, "max_steps": int(config.budget_s)}
            if config.budget_kind == "steps"
            else config.options,
        )
    )
    recorder = Recorder(journal, state, clock, wall=None if config.simulated else time.time)
    opening = Opening(_started(config, source), source)
    researcher = researcher_factory(config.researcher)(
        ResearcherConfig(
            clock=clock,
            target_dir=target_dir,
            seed=config.seed,
            options=config.options.get("research", {}),
            secrets=secrets,
        )
    )
    return Engine(state, recorder, clock, executor, researcher, opening)


def _started(config: SessionConfig, source: str) -> SessionStarted:
    """The session's first event."""
    return SessionStarted(
        session=_simulated_id(config, source) if config.simulated else config.session,
        name=config.title if config.simulated else config.name,
        seed=config.seed,
        simulated=config.simulated,
        epoch=SIMULATED_EPOCH_S if config.simulated else config.created_unix_s,
        executor=config.executor,
        researcher=config.researcher,
        limits=config.limits,
        target=Target(
            budget_s=config.budget_s,
            budget_kind=config.budget_kind,
            seq_len=config.seq_len,
            eval_tokens=config.eval_tokens,
            profile=config.profile,
            corpus=config.corpus_sha256,
            harness=sha256_of(Path(config.target_dir) / "harness.py"),
        ),
        version=config.version,
        until_limits=bool(config.options.get("until_limits", False)),
    )


def _simulated_id(config: SessionConfig, source: str) -> str:
    """What a simulated session's journal calls it: equal for equal sessions, whatever their folders are called."""
    asked = (config.seed, config.gpus, config.researcher, config.limits, config.budget_s, config.options, source)
    return f"sim-{hashlib.sha256(msgspec.json.encode((*asked, config.version), order='sorted')).hexdigest()[:12]}"


async def _query(engine: Engine, projection: Projection, folder: Path, sql: str, max_rows: int) -> Table:
    """Answer from tables that hold every event up to now; session time stands still meanwhile. Raises SqlError."""
    with engine.clock.hold(live=False):
        await engine.recorder.durable()
        try:
            await projection.publish(engine.state.now.n)
        except ProjectionFailed as error:
            await projection.start()
            raise SqlError(str(error)) from None
        return await asyncio.to_thread(query, folder, sql, max_rows=max_rows)


async def _publish(engine: Engine, projection: Projection) -> str:
    await engine.recorder.durable()
    n = engine.state.now.n
    try:
        return f"published up to event {await projection.publish(n)}"
    except ProjectionFailed as error:
        with contextlib.suppress(OSError):
            await projection.start()  # a full disk may have ended it; the next question finds a new process
        return str(error)


def _info(socket: str, error: str = "") -> EngineInfo:
    return EngineInfo(
        pid=os.getpid(), socket=socket, version=installed_version(), started_unix_s=time.time(), error=error
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
