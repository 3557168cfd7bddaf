"""Making a fork: what a person asked for becomes a session's configuration, on the grounds of its parent's."""

from __future__ import annotations

import secrets
import time
from typing import Any, Final

import msgspec

from core.events import Limits
from core.fork import ForkPoint, default_seed, fork_point, fork_session
from core.limits import expected_wall_s, remaining
from core.moment import MomentError, moment_of
from core.registry import RESEARCHERS, UnknownName, names
from core.replay import History
from core.session import SessionConfig, SessionError, SessionFolder
from core.version import installed_version
from tui.claude import research_options
from tui.cli import UserError
from tui.create import Asked, free_name, paced

_MOST_HINT_CHARS: Final = 8_000
_TITLE_CHARS: Final = 50


class AskedFork(msgspec.Struct, kw_only=True, frozen=True):
    """What a person asked of a fork; None where nothing was said. The fields are the options of `fork`.

    `rest` gives it what its parent had left of its limits. Without any limit of its own it has those of its parent, and
    they count anew.
    """

    at_event: int | None = None
    at: str | None = None
    name: str | None = None
    hint: str = ""
    researcher: str | None = None
    model: str | None = None
    effort: str | None = None
    claude_endpoint: str | None = None
    hours: float | None = None
    runs: int | None = None
    gpu_hours: float | None = None
    max_usd: float | None = None
    rest: bool = False
    until_limits: bool = False
    seed: int | None = None
    speed: str | None = None
    watched: bool = False


def forked_session(parent: SessionFolder, asked: AskedFork) -> SessionFolder:
    """Check what can be checked before, then make the session.

    Raises:
        UserError, UnknownName, SessionError, JournalDamaged: one sentence for the person.
    """
    if asked.name and free_name(asked.name) != asked.name:
        raise UserError(f"there is a session called {asked.name} already; choose another --name", 2)
    if len(asked.hint) > _MOST_HINT_CHARS:
        raise UserError(f"a hint may have {_MOST_HINT_CHARS:,} characters, this one has {len(asked.hint):,}", 2)
    own = parent.config()
    point = _point(parent, asked)
    config = _config(own, point, asked)
    return fork_session(point, config, hint=asked.hint.strip())


def _point(parent: SessionFolder, asked: AskedFork) -> ForkPoint:
    """The moment that was asked for. Raises UserError, SessionError, JournalDamaged."""
    if asked.at is None:
        return fork_point(parent, n=asked.at_event)
    history = History(parent.journal_dir)
    while history.extend(5_000):
        pass
    try:
        moment = moment_of(asked.at, history.head, history.head.now.t_s)
    except MomentError as error:
        raise UserError(str(error), 2) from None
    if moment.kind == "second":
        if moment.value > history.head.now.t_s and history.problem:
            raise SessionError(history.problem)
        return fork_point(parent, t_s=moment.value)
    return fork_point(parent, n=round(moment.value))


def _config(own: SessionConfig, point: ForkPoint, asked: AskedFork) -> SessionConfig:
    if asked.speed is not None and not own.simulated:
        raise UserError("--speed belongs to a simulated session; this one runs in real time", 2)
    now_s = time.time()
    researcher = asked.researcher or own.researcher
    known = names(RESEARCHERS)
    if researcher not in known:
        raise UnknownName(f"there is no researcher called {researcher!r}; installed are: {', '.join(known)}")
    limits = _limits(point, asked)
    research = _research(own, researcher, asked, limits.usd)
    title = asked.name or f"{(own.title or own.name).removesuffix('-fork')[:_TITLE_CHARS]}-fork"
    options = {name: value for name, value in own.options.items() if name != "research"}
    options |= {"research": research} if research else {}
    options |= {"until_limits": True} if asked.until_limits else {}
    options |= {"cluster_seed": own.options.get("cluster_seed", own.seed)} if own.simulated else {}
    return msgspec.structs.replace(
        own,
        session=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now_s))}-{secrets.token_hex(2)}",
        name=asked.name or free_name(title),
        title=title,
        created_unix_s=round(now_s, 3),
        seed=asked.seed if asked.seed is not None else default_seed(point),
        researcher=researcher,
        limits=msgspec.structs.replace(limits, usd=research.get("max_usd")),
        speed=paced(asked.speed, limits.hours, watched=asked.watched) if own.simulated else None,
        options=options,
        version=installed_version(),
        forked_from=own.name,
    )


def _limits(point: ForkPoint, asked: AskedFork) -> Limits:
    """Those that were asked for; else those of the parent, or what it had left of them. Raises UserError."""
    given = Limits(hours=asked.hours, runs=asked.runs, gpu_hours=asked.gpu_hours)
    any_given = given != Limits()
    if asked.rest and any_given:
        raise UserError("--rest takes the parent's limits as they are left: give no others beside it", 2)
    limits = remaining(point.state) if asked.rest else point.started.limits
    run_h = expected_wall_s(point.state) / 3600.0
    for what, left, least in (
        ("time", limits.hours, run_h),
        ("runs", limits.runs, 1),
        ("device time", limits.gpu_hours, run_h),
    ):
        if asked.rest and left is not None and left < least:
            raise UserError(f"less than a run is left of the session's {what} at that moment: give other limits", 2)
    if any_given:
        limits = msgspec.structs.replace(given, usd=limits.usd, consecutive_failures=limits.consecutive_failures)
    return limits if asked.max_usd is None else msgspec.structs.replace(limits, usd=asked.max_usd)


def _research(own: SessionConfig, researcher: str, asked: AskedFork, max_usd: float | None) -> dict[str, Any]:
    """A model's options: its parent's where it had one, but for what was asked. Raises UserError."""
    from core.claude.settings import settings_of

    given = Asked(
        executor=own.executor,
        researcher=researcher,
        model=asked.model,
        effort=asked.effort,
        claude_endpoint=asked.claude_endpoint,
        max_usd=asked.max_usd,
    )
    if researcher == own.researcher == "claude":
        kept = settings_of(own.options.get("research", {}))
        given = msgspec.structs.replace(
            given,
            model=asked.model or kept.model,
            effort=asked.effort or (kept.effort if asked.model is None else None) or None,
            claude_endpoint=asked.claude_endpoint if asked.claude_endpoint is not None else kept.endpoint,
            max_usd=max_usd,
            on_refusal=kept.on_refusal,
            fallback_model=(kept.fallback_model if asked.model is None else "") or None,
            autopilot_runs=kept.autopilot_runs,
            claude_faults=kept.endpoint_options.get("faults"),
            claude_mind=kept.endpoint_options.get("mind"),
            claude_timeout_s=kept.read_timeout_s,
        )
    return research_options(given)
