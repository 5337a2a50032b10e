"""A run's own files, changed by another hand: one error that names the key."""

import json

import pytest

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import FeedbackError, ManifestError
from prereq.selector.rounds.feedback import read_feedback
from prereq.selector.rounds.run import read_done, read_run


@pytest.fixture
def change(make_driver):
    """`change(file, **keys)` rewrites a file of a finished run and gives the run's folder."""
    driver = make_driver(rounds=2)
    driver.finish()
    driver.report(0)  # the run ended without waiting for it

    def rewrite(name, remove=(), **keys):
        path = driver.folder / name
        value = {**json.loads(path.read_bytes()), **keys}
        path.write_bytes(canonical_json({key: value[key] for key in value if key not in remove}))
        return driver.run

    return rewrite


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pool": None}, "pool is None, expected text"),
        ({"global_batch": "16"}, "global_batch is '16', expected a whole number"),
        ({"skills": [1]}, "skills.0 is 1, expected text"),
        ({"versions": None}, "versions is None, expected an object"),
        ({"drawing": {}}, "drawing.batches_per_round is missing"),
    ],
)
def test_a_changed_run_names_the_key(change, keys, message):
    run = change("run.json", **keys)
    with pytest.raises(ManifestError, match=rf"run\.json: {message}.*restore it"):
        read_run(run)


def test_a_changed_end_names_the_key(change):
    assert read_done(change("done.json")) is not None
    with pytest.raises(ManifestError, match=r"done\.json: last is missing"):
        read_done(change("done.json", remove=("last",)))
    with pytest.raises(ManifestError, match=r"done\.json: rounds is 'x', expected a whole number"):
        read_done(change("done.json", rounds="x", last=None))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"losses": []}, r"losses is \[\], expected an object"),
        ({"step": None}, "step is None, expected a whole number"),
        ({"signals": {"norm": 1}}, r"signals is \{'norm': 1\}, expected"),
    ],
)
def test_a_changed_report_names_the_key(change, keys, message):
    run = change("feedback/000000.json", **keys)
    with pytest.raises(FeedbackError, match=message):
        read_feedback(run, 0)
