"""What a screen remembers of its person from one time to the next: a small file, never worth failing for."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from core.session import home


def memory_path() -> Path:
    """Where it is kept: with everything else in AUTORESEARCH_HOME, else where the platform keeps such things."""
    folder = home() if "AUTORESEARCH_HOME" in os.environ else Path(platformdirs.user_state_dir("autoresearch"))
    return folder / "screen.json"


def recall(name: str) -> Any:
    """What was remembered under a name; None where there is nothing, or nothing that can be read."""
    return _read().get(name)


def remember(name: str, value: Any) -> None:
    """Keep a value that JSON can hold, for this person only; where the disk does not take it, it is forgotten."""
    path, values = memory_path(), _read()
    if values.get(name) == value:
        return
    values[name] = value
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, written = tempfile.mkstemp(prefix=".screen-", dir=path.parent)  # 0600 from the start
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(values)))
            Path(written).replace(path)
        except OSError:
            Path(written).unlink(missing_ok=True)
            raise


def _read() -> dict[str, Any]:
    try:
        return msgspec.json.decode(memory_path().read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
