"""Executors, researchers, model endpoints and clocks by name: `core` imports neither cluster nor screen."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import cast

from core.bench import EndpointFactory, ResearcherFactory
from core.clock import ClockFactory
from core.executor import ClusterFactory, ExecutorFactory

CLOCKS = "autoresearch_tui.clocks"
CLUSTERS = "autoresearch_tui.clusters"
ENDPOINTS = "autoresearch_tui.endpoints"
EXECUTORS = "autoresearch_tui.executors"
RESEARCHERS = "autoresearch_tui.researchers"


class UnknownName(LookupError):
    """No executor or researcher has this name; the text lists those that are installed."""


def names(group: str) -> list[str]:
    """Names that can be loaded, sorted."""
    return sorted(point.name for point in entry_points(group=group))


def executor_factory(name: str) -> ExecutorFactory:
    """The factory of an executor. Raises UnknownName."""
    return cast(ExecutorFactory, _point(EXECUTORS, name).load())


def clock_factory(name: str) -> ClockFactory:
    """The factory of a clock. Raises UnknownName."""
    return cast(ClockFactory, _point(CLOCKS, name).load())


def cluster_factory(name: str) -> ClusterFactory:
    """What starts a simulated cluster. Raises UnknownName."""
    return cast(ClusterFactory, _point(CLUSTERS, name).load())


def researcher_factory(name: str) -> ResearcherFactory:
    """The factory of a researcher. Raises UnknownName."""
    return cast(ResearcherFactory, _point(RESEARCHERS, name).load())


def endpoint_factory(name: str) -> EndpointFactory:
    """The factory of a simulated model's API. Raises UnknownName."""
    return cast(EndpointFactory, _point(ENDPOINTS, name).load())


def _point(group: str, name: str) -> EntryPoint:
    found = [point for point in entry_points(group=group) if point.name == name]
    if not found:
        kind = group.rpartition(".")[2].rstrip("s")
        raise UnknownName(f"there is no {kind} called {name!r}; installed are: {', '.join(names(group)) or 'none'}")
    return found[0]
