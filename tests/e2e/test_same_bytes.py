"""The same manifests, byte for byte, however the work was split, and accepted by the independent reader."""

import json
import shutil

import pytest

RUNS = ((0, 0), (1, 0), (2, 0), (4, 0), (4, 1))  # Ray CPUs (0: in process), and a second run where chance is greatest


@pytest.mark.slow
@pytest.mark.ray
def test_pool_and_run_are_the_same_bytes_for_any_number_of_workers(prereq, reader, manifests):
    """In process and on 1, 2 and 4 Ray CPUs, the last twice; with scores, filters and an own list of dropped."""
    found = {}
    target = prereq.root / "target.jsonl"
    target.write_text("".join(json.dumps({"text": f"add plus sum total increase {i}"}) + "\n" for i in range(20)))
    scoring = [
        {"name": "like", "method": "dsir", "paths": [str(target)], "keep_share": 0.9, "draw": "sample"},
        {"name": "good", "method": "quality", "paths": [str(target)], "examples": 50},
        {"name": "near", "method": "mass", "paths": [str(prereq.root / "items.jsonl")]},
    ]
    (prereq.root / "items.jsonl").write_text('{"skills": ["adding", "counting"]}\n{"skills": ["adding"]}\n')
    for cpus, again in RUNS:
        root = prereq.root / f"cpus{cpus}-{again}"
        config = prereq.config(f"cpus{cpus}-{again}", root=root, ray__num_cpus=cpus, scoring=scoring)
        prereq("run", config)
        found[cpus, again] = manifests(root / "pool") | manifests(root / "run")
        found[cpus, again]["filtered"] = (root / "pool" / "filtered.parquet").read_bytes()
    whole = found[0, 0]
    assert sum("rounds/" in name for name in whole) == 4
    for key, files in found.items():
        assert files == whole, f"{key} differs in {[k for k in {*files, *whole} if files.get(k) != whole.get(k)]}"
    pool = reader.check_pool(prereq.root / "cpus2-0/pool")
    assert len(reader.check_run(prereq.root / "cpus2-0/run", pool)) == 4


@pytest.mark.slow
def test_a_finished_build_and_run_are_found_and_nothing_is_done_again(prereq, manifests):
    config = prereq.config()
    prereq("run", config)
    before = manifests(prereq.root / "run")
    times = {p: p.stat().st_mtime_ns for p in prereq.root.rglob("manifest.json")}
    prereq("run", config)
    assert manifests(prereq.root / "run") == before
    assert {p: p.stat().st_mtime_ns for p in prereq.root.rglob("manifest.json") if "stages" not in p.parts} == {
        p: t for p, t in times.items() if "stages" not in p.parts
    }


@pytest.mark.slow
def test_the_reader_can_fail(prereq, reader):
    """Each kind of damage is refused, so acceptance means something."""
    prereq("build", prereq.config(mixer__name="uniform"))
    prereq("sample", prereq.config(mixer__name="uniform"))
    pool = reader.check_pool(prereq.root / "pool")
    reader.check_run(prereq.root / "run", pool)

    def damaged(change):
        shutil.rmtree(prereq.root / "bad", ignore_errors=True)
        shutil.copytree(prereq.root / "run", prereq.root / "bad")
        path = prereq.root / "bad/rounds/000001/manifest.json"
        value = json.loads(path.read_bytes())
        change(value)
        path.write_bytes(json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode())
        with pytest.raises(AssertionError) as error:
            reader.check_run(prereq.root / "bad", pool)
        return str(error.value)

    def shift(value):
        draws = next(iter(value["draws"].values()))
        draws[0]["start"] -= 1

    def tilt(value):
        shares = value["mixture"]["skills"]
        least, most = (pick(shares, key=shares.get) for pick in (min, max))
        shares[least] += 0.01
        shares[most] -= 0.01

    assert "goes on at" in damaged(shift)
    assert "mixture of" in damaged(tilt)
    assert "order" in damaged(lambda v: v.update(order="0" * 64))
    assert "chain" in damaged(lambda v: v.update(parent=None))
    assert "tokens" in damaged(lambda v: v.update(tokens=v["tokens"] + 1))
    assert "arms of the mixture" in damaged(lambda v: v["mixture"]["requested"].update(zz=0.0))
    (prereq.root / "run/rounds/000002/left-behind").write_bytes(b"")
    with pytest.raises(AssertionError, match="stray files"):
        reader.check_run(prereq.root / "run", pool)
