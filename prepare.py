# ruff: noqa: T201
"""Make the corpus that runs train on and are scored on: token arrays, byte counts and a hash, once, offline.

    python prepare.py --out DIR [--source stdlib | PATH...] [--vocab-size 256 | N]

The default corpus is the source code of this Python's standard library, byte by byte: every machine has it,
it needs no network, and 10 MB are plenty for budgets of seconds. Its bytes differ between Python versions and
even between builds of one version, so a score is comparable only between runs whose `sha256` agrees.

A corpus folder holds

    meta.json        what it is: name, vocab_size, dtype, separator, sha256, token and document counts, source
    train.bin        token ids, flat, uint8 or uint16; a separator stands before each document
    val.bin          the same, of the documents held out
    token_bytes.bin  per token id, how many bytes of text it stands for; the separator stands for none
    tokenizer.json   only with a BPE vocabulary

Needs numpy, and `tokenizers` only for a BPE vocabulary.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMAT = 1
BYTE_VOCAB = 256
BYTE_SEPARATOR = 0  # text holds no NUL bytes, so 0 is free to mark where a document starts
VAL_SHARE_256THS = 13  # about 5 % of the documents, chosen by the hash of their path
# Parts of the standard library whose text is not like the rest (test data, generated or vendored code), or
# which distributions leave out at will.
STDLIB_SKIPPED = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "ensurepip", "turtledemo", "site-packages", "dist-packages"}
)

Progress = Callable[[float, str], None]


class CorpusError(Exception):
    """The corpus cannot be made; the message says why and what to do."""


class Document(NamedTuple):
    """One text: its path relative to the source it came from, and its UTF-8 bytes."""

    path: str
    data: bytes


class Encoding(NamedTuple):
    """How text becomes tokens: `encode` maps a document to ids; `tokenizer` is empty for bytes."""

    vocab_size: int
    separator: int
    token_bytes: np.ndarray
    tokenizer: bytes
    encode: Callable[[bytes], Sequence[int] | np.ndarray]


def prepare_corpus(
    out_dir: str | os.PathLike[str],
    sources: Sequence[str | os.PathLike[str]] | None = None,
    vocab_size: int = BYTE_VOCAB,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the corpus folder `out_dir` and return its meta; an equal corpus already there is reused.

    Args:
        out_dir: the folder to make. It appears whole or not at all. A corpus already there is replaced; any
            other folder that is not empty is refused.
        sources: files and folders of UTF-8 text; None for the standard library of the running Python.
        vocab_size: 256 for bytes, or the size of a BPE vocabulary to train (258..65536).
        progress: called with (fraction 0..1, what is being done).

    Raises:
        CorpusError: for everything that a user can put right.
    """
    if vocab_size != BYTE_VOCAB and not BYTE_VOCAB + 2 <= vocab_size <= 65536:
        raise CorpusError(f"--vocab-size {vocab_size} is not possible: use 256 (bytes) or 258 to 65536 (BPE).")
    out = Path(out_dir)
    tell = progress or (lambda _fraction, _text: None)
    tell(0.0, "reading the sources")
    documents, skipped = read_documents(sources)
    documents_sha256 = _hash_documents(documents)
    reusable = _load_reusable(out, documents_sha256, vocab_size)
    if reusable is not None:
        tell(1.0, f"reused {out}")
        return reusable
    if out.exists() and not _is_replaceable(out):
        raise CorpusError(f"{out} exists and is not a corpus: choose another folder with --out.")

    train, val, split = split_documents(documents)
    tell(0.2, "training the tokenizer" if vocab_size != BYTE_VOCAB else "encoding")
    encoding = _byte_encoding() if vocab_size == BYTE_VOCAB else _bpe_encoding(train, vocab_size)
    tell(0.6, "encoding")
    train_tokens, val_tokens = _encode(train, encoding), _encode(val, encoding)
    files = {
        "train.bin": train_tokens.tobytes(),
        "val.bin": val_tokens.tobytes(),
        "token_bytes.bin": encoding.token_bytes.tobytes(),
    }
    if encoding.tokenizer:
        files["tokenizer.json"] = encoding.tokenizer
    meta = {
        "format": FORMAT,
        "name": "stdlib" if sources is None else Path(sources[0]).resolve().name,
        "source": "stdlib" if sources is None else [Path(source).resolve().name for source in sources],
        "vocab_size": encoding.vocab_size,
        "vocab_size_asked": vocab_size,
        "dtype": train_tokens.dtype.name,
        "separator": encoding.separator,
        "sha256": hashlib.sha256(documents_sha256.encode() + encoding.tokenizer).hexdigest(),
        "documents_sha256": documents_sha256,
        "train_tokens": len(train_tokens),
        "val_tokens": len(val_tokens),
        "documents": len(documents),
        "skipped": skipped,
        "split": split,
        "python": platform.python_version(),
        "files": {name: len(data) for name, data in files.items()},
    }
    tell(0.9, "writing")
    _publish(out, {**files, "meta.json": (json.dumps(meta, indent=1) + "\n").encode()})
    tell(1.0, f"wrote {out}")
    return meta


def read_documents(sources: Sequence[str | os.PathLike[str]] | None) -> tuple[list[Document], int]:
    """Return the documents, sorted by path, and how many files were passed over because they are not text."""
    if sources is None:
        files = _stdlib_files()
    elif sources:
        files = [pair for source in sources for pair in _source_files(Path(source))]
    else:
        raise CorpusError("No source was named: give --source stdlib, or files and folders of text.")
    documents = []
    for name, path in files:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CorpusError(f"{path} cannot be read ({error.strerror}): correct it or leave it out.") from error
        if data and _is_text(data):
            documents.append(Document(name, data))
    if not documents:
        where = "the standard library" if sources is None else ", ".join(map(str, sources))
        raise CorpusError(f"There are no UTF-8 text files in {where}: name others with --source.")
    return sorted(documents), len(files) - len(documents)


def split_documents(documents: Sequence[Document]) -> tuple[list[Document], list[Document], str]:
    """Split into training and held-out documents; return them and the rule used, "path" or "tail".

    By path: a document is held out when the first byte of SHA-256(path) is below 13, so that adding a file
    moves no other. Where that leaves a side empty (a corpus of one file, say), the last 5 % of each document,
    cut at a line's end, are held out instead.
    """
    train: list[Document] = []
    val: list[Document] = []
    for document in documents:
        held_out = hashlib.sha256(document.path.encode()).digest()[0] < VAL_SHARE_256THS
        (val if held_out else train).append(document)
    if train and val:
        return train, val, "path"
    train, val = [], []
    for path, data in documents:
        cut = data.rfind(b"\n", 0, len(data) * (256 - VAL_SHARE_256THS) // 256) + 1
        train += [Document(path, data[:cut])] if cut else []
        val += [Document(path, data[cut:])]
    if not train:
        raise CorpusError("The text is too short to hold a part of it out: give more with --source.")
    return train, val, "tail"


def _stdlib_files() -> list[tuple[str, Path]]:
    root = Path(sysconfig.get_path("stdlib"))
    # _sysconfigdata and sitecustomize describe the installation: they are written when Python is built.
    return [
        (name, path)
        for name, path in _walk(root, STDLIB_SKIPPED)
        if name.endswith(".py") and not name.startswith(("_sysconfigdata", "sitecustomize"))
    ]


def _source_files(source: Path) -> list[tuple[str, Path]]:
    if source.is_file():
        return [(source.name, source)]
    if source.is_dir():
        prefix = source.resolve().name
        return [(f"{prefix}/{name}", path) for name, path in _walk(source, frozenset())]
    raise CorpusError(f"The source {source} does not exist: correct the path given to --source.")


def _walk(root: Path, skipped: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """Yield (path relative to root with /, path) of the plain files below root, hidden ones left out."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in skipped and not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(root).as_posix(), path


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def _hash_documents(documents: Sequence[Document]) -> str:
    """Return the SHA-256 over (path, length, content) of all documents; lengths fix where each one ends."""
    digest = hashlib.sha256()
    for path, data in documents:
        digest.update(f"{path}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _byte_encoding() -> Encoding:
    token_bytes = np.ones(BYTE_VOCAB, np.uint8)
    token_bytes[BYTE_SEPARATOR] = 0
    return Encoding(
        vocab_size=BYTE_VOCAB,
        separator=BYTE_SEPARATOR,
        token_bytes=token_bytes,
        tokenizer=b"",
        encode=lambda data: np.frombuffer(data, np.uint8),
    )


def _bpe_encoding(train: Sequence[Document], vocab_size: int) -> Encoding:
    """Train a byte-level BPE on the training documents alone.

    The separator takes the last id and is unknown to the tokenizer, so that no text can spell it.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise CorpusError(
            f"--vocab-size {vocab_size} needs tokenizers: pip install tokenizers, or use 256 (bytes)."
        ) from error
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((document.data.decode() for document in train), trainer)
    size = tokenizer.get_vocab_size()  # short text can offer fewer merges than were asked for
    # The byte-level alphabet writes each byte as one character, so a token has as many bytes as characters.
    # Decoding it instead would miscount tokens that end inside a UTF-8 sequence.
    lengths = [0] * size
    for token, i in tokenizer.get_vocab().items():
        lengths[i] = len(token)
    return Encoding(
        vocab_size=size + 1,
        separator=size,
        token_bytes=np.array([*lengths, 0], np.uint16),
        tokenizer=tokenizer.to_str().encode(),
        encode=lambda data: tokenizer.encode(data.decode()).ids,
    )


def _encode(documents: Sequence[Document], encoding: Encoding) -> np.ndarray:
    """Return one flat array of token ids with a separator before each document."""
    dtype = np.uint8 if encoding.vocab_size <= 256 else np.uint16
    separator = np.array([encoding.separator], dtype)
    parts = []
    for document in documents:
        parts += [separator, np.asarray(encoding.encode(document.data), dtype)]
    return np.concatenate(parts)


def _load_reusable(out: Path, documents_sha256: str, vocab_size: int) -> dict[str, Any] | None:
    """Return the meta of a whole corpus at `out` made from the same documents in the same way, else None."""
    try:
        meta: dict[str, Any] = json.loads((out / "meta.json").read_text())
        whole = all((out / name).stat().st_size == size for name, size in meta["files"].items())
        asked = (meta["format"], meta["documents_sha256"], meta["vocab_size_asked"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return meta if whole and asked == (FORMAT, documents_sha256, vocab_size) else None


def _is_replaceable(out: Path) -> bool:
    return out.is_dir() and ((out / "meta.json").is_file() or not any(out.iterdir()))


def _publish(out: Path, files: dict[str, bytes]) -> None:
    """Write the files to a folder beside `out`, then rename it into place: no reader sees half a corpus."""
    staging: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        for name, data in files.items():
            _write(staging / name, data)
        staging.chmod(0o755)  # mkdtemp makes it private, but other users may run what trains on it
        _put_in_place(staging, out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            need_mb = sum(map(len, files.values())) / 1e6
            raise CorpusError(
                f"No space left in {out.parent}: the corpus needs {need_mb:.0f} MB; free some or use another --out."
            ) from error
        raise CorpusError(f"The corpus cannot be written to {out} ({error.strerror}): use another --out.") from error
    finally:
        if staging is not None:
            for leftover in out.parent.glob(f"{staging.name}*"):
                shutil.rmtree(leftover, ignore_errors=True)


def _put_in_place(staging: Path, out: Path) -> None:
    """Rename `staging` to `out`. A folder cannot be renamed over another, so an old corpus is moved away first.

    Runs that have the old one open keep it. Another process may make the same corpus at the same time: then one
    of the renames fails, and is tried again on what is there now.
    """
    for attempt in range(10):
        try:
            if out.exists():
                out.rename(staging.with_name(f"{staging.name}.old{attempt}"))
            staging.rename(out)
        except OSError as error:
            if attempt == 9 or error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
        else:
            return


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="Make a corpus folder for training and scoring, offline.")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument(
        "--source", nargs="+", default=["stdlib"], metavar="PATH",
        help="files and folders of UTF-8 text, or 'stdlib': this Python's standard library (default)",
    )  # fmt: skip
    parser.add_argument(
        "--vocab-size", type=int, default=BYTE_VOCAB, metavar="N", help="256: bytes (default); more: BPE"
    )
    options = parser.parse_args(argv)
    sources = None if options.source == ["stdlib"] else options.source
    try:
        meta = prepare_corpus(options.out, sources, options.vocab_size, lambda _, text: print(text, file=sys.stderr))
    except CorpusError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(meta, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
