"""The Claude researcher's options of a new session: checked against prices, models and the endpoint."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from core.secrets import KEY_NAMES, split_environment
from tui.cli import UserError

if TYPE_CHECKING:
    from tui.create import Asked

_MOST_NAME_CHARS: Final = 200
_OPTIONS: Final = {
    "model": "--model",
    "economy": "--economy",
    "effort": "--effort",
    "claude_endpoint": "--claude-endpoint",
    "on_refusal": "--on-refusal",
    "fallback_model": "--fallback-model",
    "autopilot_runs": "--autopilot-runs",
    "claude_faults": "--claude-faults",
    "claude_mind": "--claude-mind",
    "max_usd": "--max-usd",
}


def research_options(asked: Asked, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What session.json keeps of them; empty for other researchers.

    Asks the endpoint whether it knows the key and the model, so that a session does not begin with a night of waiting.

    Raises:
        UserError: one sentence for the person.
    """
    if asked.researcher != "claude":
        values = {option: getattr(asked, name) for name, option in _OPTIONS.items()}
        given = [option for option, value in values.items() if value is not None and value is not False]
        if given:
            raise UserError(f"{given[0]} belongs to the Claude researcher: add --researcher claude", 2)
        return {}
    from core.claude.models import ECONOMY_MODEL
    from core.claude.settings import Settings

    secrets, _ = split_environment(os.environ if environment is None else environment)
    endpoint = _endpoint(asked.claude_endpoint, secrets)
    default = Settings()
    model = asked.model or (ECONOMY_MODEL if asked.economy else default.model)
    for name in filter(None, (model, asked.fallback_model)):
        _check_name(name)
    settings = Settings(
        model=model,
        effort=asked.effort or "",
        endpoint=endpoint,
        max_usd=_cap(asked, model),
        on_refusal="pause" if asked.on_refusal == "pause" else "fallback",
        fallback_model=asked.fallback_model or "",
        autopilot_runs=asked.autopilot_runs,
        read_timeout_s=asked.claude_timeout_s,
        endpoint_options=_simulation(asked),
    )
    if settings.endpoint_options and not settings.simulated:
        raise UserError("--claude-faults and --claude-mind need the simulated model: add --claude-endpoint sim", 2)
    _check_effort(settings)
    if not settings.simulated:
        _check_key(secrets, endpoint)
        asyncio.run(_check_endpoint(settings, secrets))
    options: dict[str, Any] = msgspec.to_builtins(settings)
    return options | {"max_usd": settings.max_usd}


def _simulation(asked: Asked) -> dict[str, str]:
    """How the simulated model shall fail or misbehave. Raises UserError."""
    from sim.messages_api.faults import parse
    from sim.messages_api.misbehaving import KINDS

    try:
        parse(asked.claude_faults or "none", 0)
    except ValueError as error:
        raise UserError(str(error), 2) from None
    if asked.claude_mind and asked.claude_mind not in KINDS:
        raise UserError(f"there is no mind {asked.claude_mind!r}; there are {', '.join(KINDS)}", 2)
    given = {"faults": asked.claude_faults, "mind": asked.claude_mind}
    return {name: value for name, value in given.items() if value}


def _endpoint(asked: str | None, secrets: Mapping[str, str]) -> str:
    """Empty for the Claude API, `sim`, or a URL that can be one. Raises UserError."""
    from core.claude.api import LOOPBACK
    from core.claude.settings import SIMULATED

    text = (asked if asked is not None else secrets.get("ANTHROPIC_BASE_URL", "")).strip().rstrip("/")
    if text in ("", SIMULATED):
        return text
    try:
        url = urlsplit(text)
        good = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
        good = good and text.isascii() and text.isprintable() and not set(" ?#") & set(text)
    except ValueError:
        good = False
    if not good:
        raise UserError(
            f"{text!r} is no endpoint: give 'sim', or the base URL of a server that speaks the Messages API, such as "
            "http://localhost:11434",
            2,
            about="claude_endpoint",
        )
    if url.username or url.password:
        sentence = "a URL with a password in it would be kept in the session: set ANTHROPIC_AUTH_TOKEN instead"
        raise UserError(sentence, 2, about="claude_endpoint")
    has_key = any(map(secrets.get, KEY_NAMES))
    if url.scheme == "http" and url.hostname not in LOOPBACK and has_key:
        sentence = f"{text} would be sent your API key in the clear: use https, or unset ANTHROPIC_API_KEY"
        raise UserError(sentence, 2, about="claude_endpoint")
    return text


def _cap(asked: Asked, model: str) -> float | None:
    """The most dollars; a cap needs a price. Raises UserError."""
    from core.claude.prices import PriceError, Prices
    from core.claude.settings import DEFAULT_USD
    from core.session import home

    try:
        price = Prices.load(home()).price_of(model)
    except PriceError as error:
        raise UserError(str(error), about="max_usd") from None
    unpriced = model if price is None else asked.fallback_model
    if asked.max_usd is None and price is None:
        return None
    if unpriced and Prices.load(home()).price_of(unpriced) is None:
        instead = "leave it out" if price is None else "choose another model to fall back to"
        raise UserError(
            f"nothing is known of what {unpriced} costs, so --max-usd cannot hold: {instead}, or write the price into "
            f"{home() / 'prices.json'} (docs/claude.md)",
            2,
            about="max_usd",
        )
    return DEFAULT_USD if asked.max_usd is None else asked.max_usd


def _check_name(model: str) -> None:
    """Whether it can be a model's id. Raises UserError."""
    if not (model.isprintable() and 0 < len(model) <= _MOST_NAME_CHARS and model.strip(".") and " " not in model):
        sentence = f"{model[:60]!r} is no model's name: give its id at the endpoint, such as claude-opus-5-5"
        raise UserError(sentence, 2, about="model")


def _check_effort(settings: Any) -> None:
    from core.claude.models import capabilities

    known = capabilities(settings.model)
    try:
        if known.known:
            known.effort_or_default(settings.effort)
    except ValueError as error:
        raise UserError(str(error), 2, about="effort") from None


def _check_key(secrets: Mapping[str, str], endpoint: str) -> None:
    if endpoint or any(map(secrets.get, KEY_NAMES)):
        return
    raise UserError(
        "the Claude researcher needs a key: set ANTHROPIC_API_KEY, try it without one by --claude-endpoint sim, or use "
        "--researcher builtin, which needs none",
        about="claude_endpoint",
    )


async def _check_endpoint(settings: Any, secrets: Mapping[str, str]) -> None:
    """Ask for the model once. Raises UserError where it cannot work; a server that is only busy is no reason."""
    from core.claude.answer import CallFailed
    from core.claude.api import ModelClient
    from core.claude.recovery import blocking_sentence

    client = ModelClient(secrets, settings.endpoint, silence_s=30.0)
    try:
        await client.describe(settings.model)
    except CallFailed as failed:
        if failed.kind in ("rate_limited", "overloaded", "server_error"):
            return
        where = settings.endpoint or "the Claude API"
        sentence = f"{where} cannot be used: {blocking_sentence(failed.kind, failed.reason)}"
        raise UserError(sentence, about="claude_endpoint") from None
    finally:
        await client.close()
