"""What `train.py` must satisfy before a device is spent on it."""

from __future__ import annotations

import io
import tokenize

from core.patching.errors import PatchError
from core.patching.identity import encode
from core.patching.outline import outline

MAX_SOURCE_BYTES = 128 * 1024
_REQUIRED = {"build": "build(vocab_size, seq_len, device)", "train": "train(run, model)"}


def check_source(source: str) -> None:
    """Raise PatchError unless the source can be a revision.

    It must be UTF-8 Python that compiles, of at most 128 KiB, without null bytes, with top-level functions `build`
    and `train` (docs/target.md). Costs a full parse once per structure, see `outline`.
    """
    data = encode(source)
    if len(data) > MAX_SOURCE_BYTES:
        raise PatchError(
            f"train.py has {len(data):,} bytes, more than the {MAX_SOURCE_BYTES:,} allowed: make it shorter"
        )
    _check_encoding(data)
    functions = outline(source).template.functions
    missing = [signature for name, signature in _REQUIRED.items() if name not in functions]
    if missing:
        raise PatchError(f"train.py has no top-level function {' and '.join(missing)}: define it")


def _check_encoding(data: bytes) -> None:
    # Python would run a file with an encoding cookie as another text than the one that is shown and hashed.
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError as error:
        raise PatchError(f"train.py declares an encoding that does not hold ({error}): remove it") from error
    if encoding != "utf-8":
        raise PatchError(f"train.py declares or starts with the encoding {encoding}: it must be plain UTF-8")
