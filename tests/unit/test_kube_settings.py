"""Settings of a cluster: read from YAML and options, and one clear sentence for each kind of mistake; quantities."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.executor import ExecutorError
from executors.kubernetes import quantity
from executors.kubernetes.settings import KubeSettings, load


def write(tmp_path, text):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return path


def test_usual_settings_are_valid():
    assert load(None, {}) == KubeSettings()


def test_options_beat_the_file(tmp_path):
    path = write(tmp_path, "namespace: research\nqueue: gpus\ntolerations:\n- {key: team, operator: Exists}\n")
    found = load(path, {"queue": "night", "cpus": 4})
    assert (found.namespace, found.queue, found.cpus) == ("research", "night", 4)
    assert found.tolerations == ({"key": "team", "operator": "Exists"},)


def test_an_empty_file_says_nothing(tmp_path):
    assert load(write(tmp_path, "# nothing yet\n"), {}) == KubeSettings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("namspace: x", r"a setting `namspace` that does not exist: did you mean `namespace`\?"),
        ("zzzzz: 1", r"`zzzzz` that does not exist: docs/kubernetes.md lists them"),
        ("cpus: four", r"`cpus` \('four'\): expected a whole number, got a text"),
        ("cpus: 1.5", r"`cpus` \(1.5\): expected a whole number"),
        ("cpus: true", r"`cpus` \(True\): expected a whole number, got true or false"),
        ("allow_mig: 1", r"`allow_mig` \(1\): expected true or false"),
        ("tolerations: {a: b}", r"`tolerations` .*: expected a list, got a block"),
        ("products: [H100, 7]", r"`products\[1\]` \(7\): expected a text"),
        ("node_selector: {a: 1}", r"`node_selector\[...\]`.*expected a text"),
        ("endpoint: real", r"`endpoint`: invalid enum value 'real'"),
        ("memory: 64GB", r"`memory`: `64GB` is not a quantity such as 500m, 8 or 64Gi"),
        ("memory: '-1Gi'", r"`memory`: `-1Gi` is not a quantity"),
        ("shm: ''", r"`shm`: a volume needs a size such as 8Gi"),
        ("tmp: 64", r"`tmp` \(64\): expected a text"),
        ("tmp: '64'", r"`tmp`: `64` is less than 1Mi"),
        ("cpus: -1", r"`cpus`: -1 is less than 0"),
        ("in_flight: 0", r"`in_flight`: 0 is less than 1"),
        ("submit_per_s: .nan", r"`submit_per_s`: nan is less than 0.1"),
        ("namespace: My_Space", r"`namespace`: `My_Space` is no name in Kubernetes"),
        ("image: ''", r"`image`: `` is empty or holds blanks"),
        ("image: 'a b'", r"`image`: `a b` is empty or holds blanks"),
        ("data: /mnt/data", r"`data`: `/mnt/data` is neither pvc:NAME, pvc:NAME/subPath nor image:REFERENCE"),
        ("data: 'pvc:'", r"`data`: `pvc:` is neither"),
        ("data: pvc:x/../y", r"`data`: `pvc:x/../y` leads out of its volume"),
        ("cache: x", r"`cache`: `x` is not pvc:NAME"),
        ("data_corpus_sha256: abc", r"`data_corpus_sha256`: it must be 64 hexadecimal digits"),
        ("prometheus_url: host:9090", r"`prometheus_url`: `host:9090` must begin with http"),
        ("[1, 2]", r"must be `name: value` lines, not a list"),
        ("just words", r"must be `name: value` lines, not a text"),
        ("a: [1", r"are not YAML \(line \d"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path, text, says):
    with pytest.raises(ExecutorError, match=says) as error:
        load(write(tmp_path, text + "\n"), {})
    assert "cluster.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_option_is_told_as_one():
    with pytest.raises(ExecutorError, match=r"^the options have a wrong value at `cpus`"):
        load(None, {"cpus": -1})
    with pytest.raises(ExecutorError, match=r"^the options name a setting `contxt` .* did you mean `context`"):
        load(None, {"contxt": "x"})


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ExecutorError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml", {})
    (tmp_path / "cluster.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ExecutorError, match="are not UTF-8 text"):
        load(tmp_path / "cluster.yaml", {})


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", "0.5"), ("8", "8"), ("64Gi", str(64 << 30)), ("1.5Gi", str(3 << 29)), ("2k", "2000"), ("1e3", "1000"),
     ("1E", "1" + "0" * 18), ("1E3", "1000"), (".5", "0.5"), ("1500n", "0.0000015"), (4, "4")],
)  # fmt: skip
def test_quantities(text, value):
    assert quantity.parse(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "Gi", "-1", "1 Gi", "1GiB", "1KB", "0x10", "inf", "nan", None, [1], True])
def test_no_quantities(text):
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity.parse(text)


@given(st.integers(0, 2**50))
def test_whole_mebibytes_round_trip(number):
    assert quantity.mib(f"{number}Mi") == number
    assert quantity.mib(f"{number}Ki") == number // 1024
