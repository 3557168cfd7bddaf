"""Background tasks whose errors are heard: one that failed silently would leave a session that only seems well."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


def begin(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task; what it raises goes to the loop's exception handler, by which the engine ends."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_report)
    return task


def _report(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        context = {"message": "a task of the Kubernetes executor failed", "exception": error, "task": task}
        asyncio.get_running_loop().call_exception_handler(context)
