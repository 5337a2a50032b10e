"""Round manifests: canonical bytes, and every kind of damage named."""

import json
import re

import pytest

from prereq.graph.canonical import canonical_json, sha256_hex
from prereq.graph.errors import ManifestError
from prereq.selector.rounds.manifest import check_shard_bytes, parse_manifest, read_manifest


@pytest.fixture
def run(make_driver):
    driver = make_driver(mixer="uniform", rounds=2)
    driver.finish()
    return driver


def test_bytes_round_trip(run):
    data = (run.folder / "rounds/000001/manifest.json").read_bytes()
    manifest = parse_manifest(data, 1, "here")
    assert manifest.to_bytes() == data
    assert manifest.sha256 == sha256_hex(data)
    assert read_manifest(run.run, 2) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: b"{" + d, "not JSON"),
        (lambda d: d.replace(b"prereq.round/1", b"prereq.round/2"), "format is 'prereq.round/2'"),
        (lambda d: json.dumps(json.loads(d)).encode(), "is not canonical JSON"),
        (lambda d: d.replace(b'"round":1', b'"round":3'), "says it is round 3, its folder says 1"),
        (lambda d: d.replace(b'"samples"', b'"sample"', 1), "missing keys|unknown keys"),
        (lambda d: d.replace(b'"order"', b'"ordre"'), re.escape("missing keys ['order'], unknown keys ['ordre']")),
    ],
)
def test_damage_is_named(run, change, message):
    path = run.folder / "rounds/000001/manifest.json"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ManifestError, match=message):
        read_manifest(run.run, 1)


def test_a_damaged_shard_names_file_expected_found_and_remedy(run):
    shard = read_manifest(run.run, 1).shards[0]
    data = (run.folder / f"rounds/000001/{shard.path}").read_bytes()
    check_shard_bytes(data, shard, "f", 1)
    with pytest.raises(
        ManifestError, match=rf"f: has {len(data) - 1} bytes, the manifest says {len(data)}.*--repair 1"
    ):
        check_shard_bytes(data[:-1], shard, "f", 1)
    with pytest.raises(ManifestError, match=rf"f: sha256 is .*, the manifest says {shard.sha256}; .*--repair 1"):
        check_shard_bytes(bytes([data[0] ^ 1]) + data[1:], shard, "f", 1)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("shards", None, "shards is None, expected a list"),
        ("mixture", {}, "mixture.requested is missing"),
        ("draws", {"a": [{"epoch": 0, "start": 0}]}, "draws.a.0.stop is missing"),
        ("feedback", 7, "feedback is 7, expected a list"),
        ("mixer", "uniform", "mixer is 'uniform', expected an object"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(run, key, value, message):
    path = run.folder / "rounds/000001/manifest.json"
    path.write_bytes(canonical_json({**json.loads(path.read_bytes()), key: value}))
    with pytest.raises(ManifestError, match=message):
        read_manifest(run.run, 1)
