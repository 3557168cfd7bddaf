"""Preparing corpora from the command line: the shipped prepare.py, loaded by path, and where its results live."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from core.session import home
from core.target import locate_target
from tui.cli import UserError

DEFAULT = "stdlib"


def corpus_path(name: str = DEFAULT) -> Path:
    """Where a corpus of this name lives."""
    return home() / "corpora" / name


def read_meta(folder: Path) -> dict[str, Any] | None:
    """What a prepared corpus says of itself, or None where there is none."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) and "sha256" in meta else None


def prepare(
    out: Path, sources: Sequence[str] | None, vocab_size: int, tell: Callable[[float, str], None]
) -> dict[str, Any]:
    """Prepare a corpus and return its meta. Raises UserError with prepare.py's sentence."""
    module = _load()
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        meta: dict[str, Any] = module.prepare_corpus(out, sources, vocab_size, tell)
    except module.CorpusError as error:
        raise UserError(str(error)) from None
    return meta


def _load() -> ModuleType:
    """The target's prepare.py: data of the wheel, so it is imported by path and never by name."""
    path = locate_target() / "prepare.py"
    spec = importlib.util.spec_from_file_location("autoresearch_prepare", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
