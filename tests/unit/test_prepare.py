"""prepare.py: the same documents give the same corpus, whole or not at all."""

import errno
import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "prepare.py"
FILES = {f"pkg/module_{i}.py": f"def f_{i}(x):\n    return x + {i}\n".encode() * 40 for i in range(40)}


def import_by_path() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_by_path", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


prepare = import_by_path()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "code"


def read_tokens(out: Path, name: str) -> np.ndarray:
    return np.fromfile(out / f"{name}.bin", json.loads((out / "meta.json").read_text())["dtype"])


def files_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_the_standard_library_is_the_default(tmp_path: Path) -> None:
    meta = prepare.prepare_corpus(tmp_path / "corpus")
    train, val = read_tokens(tmp_path / "corpus", "train"), read_tokens(tmp_path / "corpus", "val")
    assert (meta["name"], meta["vocab_size"], meta["dtype"], meta["separator"]) == ("stdlib", 256, "uint8", 0)
    assert len(train) == meta["train_tokens"] > 5_000_000
    assert 0.02 < len(val) / len(train) < 0.3
    assert meta["python"] == ".".join(map(str, sys.version_info[:3]))
    assert int((train == 0).sum() + (val == 0).sum()) == meta["documents"] > 300


def test_equal_documents_give_equal_bytes(source: Path, tmp_path: Path) -> None:
    first = prepare.prepare_corpus(tmp_path / "a", [source])
    second = prepare.prepare_corpus(tmp_path / "b", [source])
    assert first == second
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_the_hash_covers_names_and_contents(source: Path, tmp_path: Path) -> None:
    hashes = {prepare.prepare_corpus(tmp_path / "a", [source])["sha256"]}
    (source / "pkg/module_0.py").write_bytes(FILES["pkg/module_0.py"] + b"#")
    hashes.add(prepare.prepare_corpus(tmp_path / "b", [source])["sha256"])
    (source / "pkg/module_0.py").rename(source / "pkg/other.py")
    hashes.add(prepare.prepare_corpus(tmp_path / "c", [source])["sha256"])
    assert len(hashes) == 3


def test_documents_are_held_out_by_the_hash_of_their_path(source: Path, tmp_path: Path) -> None:
    prepare.prepare_corpus(tmp_path / "out", [source])
    expected = {"train": [], "val": []}
    for name in sorted(f"code/{name}" for name in FILES):
        side = "val" if hashlib.sha256(name.encode()).digest()[0] < 13 else "train"
        expected[side].append(b"\0" + FILES[name.removeprefix("code/")])
    assert expected["val"]
    for side, parts in expected.items():
        assert read_tokens(tmp_path / "out", side).tobytes() == b"".join(parts)


def test_one_file_is_held_out_by_its_tail(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_bytes(b"one line of it\n" * 1000)
    meta = prepare.prepare_corpus(tmp_path / "out", [tmp_path / "input.txt"])
    train, val = read_tokens(tmp_path / "out", "train").tobytes(), read_tokens(tmp_path / "out", "val").tobytes()
    assert meta["split"] == "tail"
    assert train[1:] + val[1:] == b"one line of it\n" * 1000
    assert train.endswith(b"\n")
    assert 0.04 < len(val) / 15000 < 0.06


def test_a_separator_stands_for_no_bytes(source: Path, tmp_path: Path) -> None:
    prepare.prepare_corpus(tmp_path / "out", [source])
    counts = np.fromfile(tmp_path / "out/token_bytes.bin", np.uint8)
    assert counts.tolist() == [0] + [1] * 255


def test_an_equal_corpus_is_reused_and_another_replaces_it(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare.prepare_corpus(out, [source])
    stamp = (out / "train.bin").stat().st_ino
    told = []
    assert prepare.prepare_corpus(out, [source], progress=lambda fraction, text: told.append((fraction, text))) == first
    assert (out / "train.bin").stat().st_ino == stamp
    assert told[-1] == (1.0, f"reused {out}")
    (source / "pkg/more.py").write_bytes(b"x = 1\n")
    assert prepare.prepare_corpus(out, [source])["documents"] == first["documents"] + 1
    assert (out / "train.bin").stat().st_ino != stamp
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", "out"]


def test_a_damaged_corpus_is_made_again(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare.prepare_corpus(out, [source])
    whole = files_of(out)
    (out / "train.bin").write_bytes(whole["train.bin"][:-1])
    prepare.prepare_corpus(out, [source])
    assert files_of(out) == whole
    (out / "token_bytes.bin").unlink()
    prepare.prepare_corpus(out, [source])
    assert files_of(out) == whole


def test_what_is_not_text_is_passed_over(source: Path, tmp_path: Path) -> None:
    (source / "binary").write_bytes(b"abc\0def")
    (source / "latin1.txt").write_bytes("naïve\n".encode("latin-1"))
    (source / "empty.txt").write_bytes(b"")
    (source / ".git").mkdir()
    (source / ".git/config").write_bytes(b"hidden\n")
    meta = prepare.prepare_corpus(tmp_path / "out", [source])
    assert (meta["documents"], meta["skipped"]) == (len(FILES), 3)


def test_bpe_tokens_stand_for_the_bytes_of_the_text(source: Path, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    text = "naïve – café 日本語 🙂 <|endoftext|>\n" * 50
    (source / "pkg/unicode.md").write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    meta = prepare.prepare_corpus(out, [source], vocab_size=300)
    counts = np.fromfile(out / "token_bytes.bin", np.uint16)
    assert (meta["dtype"], len(counts)) == ("uint16", meta["vocab_size"])
    assert 258 <= meta["vocab_size"] <= 300
    assert counts[meta["separator"]] == 0
    assert counts[: meta["separator"]].min() == 1
    assert counts.max() > 1
    tokens = np.concatenate([read_tokens(out, "train"), read_tokens(out, "val")])
    total = sum(map(len, FILES.values())) + len(text.encode())
    assert counts[tokens].sum() == total
    tokenizer = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
    documents = np.split(tokens, np.flatnonzero(tokens == meta["separator"]))[1:]
    decoded = {tokenizer.decode(document[1:].tolist()).encode() for document in documents}
    assert decoded == {*FILES.values(), text.encode()}
    assert prepare.prepare_corpus(tmp_path / "again", [source], vocab_size=300) == meta
    assert files_of(tmp_path / "again") == files_of(out)


def test_another_vocabulary_is_not_a_reuse(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    small = prepare.prepare_corpus(tmp_path / "out", [source])
    large = prepare.prepare_corpus(tmp_path / "out", [source], vocab_size=280)
    assert small["vocab_size"] == 256 < large["vocab_size"]
    assert small["sha256"] != large["sha256"]


def test_errors_say_what_to_do(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    with pytest.raises(prepare.CorpusError, match="nowhere does not exist: correct the path"):
        prepare.prepare_corpus(out, [tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(prepare.CorpusError, match=r"no UTF-8 text files in .*empty: name others with --source"):
        prepare.prepare_corpus(out, [tmp_path / "empty"])
    with pytest.raises(prepare.CorpusError, match="257 is not possible: use 256"):
        prepare.prepare_corpus(out, [source], vocab_size=257)
    (tmp_path / "short.txt").write_text("no line ends here")
    with pytest.raises(prepare.CorpusError, match="too short"):
        prepare.prepare_corpus(out, [tmp_path / "short.txt"])
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(prepare.CorpusError, match="needs tokenizers: pip install tokenizers"):
        prepare.prepare_corpus(out, [source], vocab_size=300)
    assert not out.exists()


def test_a_folder_that_is_no_corpus_is_left_alone(source: Path, tmp_path: Path) -> None:
    with pytest.raises(prepare.CorpusError, match="exists and is not a corpus"):
        prepare.prepare_corpus(source, [source])
    assert {path.relative_to(source).as_posix() for path in source.rglob("*.py")} == set(FILES)


def test_a_full_disk_leaves_the_old_corpus(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    prepare.prepare_corpus(out, [source])
    whole = files_of(out)
    (source / "pkg/more.py").write_bytes(b"x = 1\n")

    def write(path: Path, data: bytes) -> None:
        if path.name == "val.bin":
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(data)

    monkeypatch.setattr(prepare, "_write", write)
    with pytest.raises(prepare.CorpusError, match=r"No space left in .*: the corpus needs \d+ MB"):
        prepare.prepare_corpus(out, [source])
    assert files_of(out) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", "out"]


def test_the_command_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main(["--out", str(tmp_path / "out"), "--source", str(source)]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads((tmp_path / "out/meta.json").read_text())
    assert prepare.main(["--out", str(tmp_path / "out"), "--source", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("correct the path given to --source.")
