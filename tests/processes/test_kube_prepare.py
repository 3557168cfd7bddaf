"""What runs in the cluster to fill its data volume, as a process of this machine with folders for its volumes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from core.target import locate_target
from executors.kubernetes.prepare_job import prepare_job
from executors.kubernetes.settings import KubeSettings

pytestmark = pytest.mark.processes


@pytest.fixture
def prepare(tmp_path):
    """Run the Job's own command with the words for prepare.py; its last word and its exit code."""
    places = {"/data": tmp_path / "data", "/dev/termination-log": tmp_path / "last"}
    places["/data"].mkdir()
    places["/prepare/prepare.py"] = locate_target() / "prepare.py"

    def run(*words: str) -> tuple[dict, int]:
        job = prepare_job(KubeSettings(), "prepare-1", words)
        _, *command = job["spec"]["template"]["spec"]["containers"][0]["command"]
        script = command[command.index("-c") + 1]
        for inside, outside in places.items():
            script = script.replace(inside, str(outside))
        command[command.index("-c") + 1] = script
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, timeout=60)
        return json.loads(places["/dev/termination-log"].read_text()), done.returncode

    return run


def test_the_corpus_is_whole_left_alone_afterwards_and_made_anew_when_asked(prepare, tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    for number in range(60):
        (text / f"{number}.txt").write_text(f"document {number}\n" * 20)
    told, code = prepare("--source", str(text))
    data = tmp_path / "data"
    assert (code, told["documents"]) == (0, 60)
    assert json.loads((data / "meta.json").read_bytes())["sha256"] == told["sha256"]
    assert sorted(path.name for path in data.iterdir()) == ["meta.json", "token_bytes.bin", "train.bin", "val.bin"]
    (text / "60.txt").write_text("one more\n")
    assert prepare("--source", str(text)) == ({**told, "was_there": True}, 0)
    again, code = prepare("--again", "--source", str(text))
    assert (code, again["documents"]) == (0, 61)
    assert again["sha256"] != told["sha256"]


def test_what_prepare_says_is_the_last_word_and_nothing_half_made_is_left(prepare, tmp_path):
    told, code = prepare("--source", str(tmp_path / "nowhere"))
    assert code == 1
    assert "does not exist" in told["error"]
    assert list((tmp_path / "data").iterdir()) == []
