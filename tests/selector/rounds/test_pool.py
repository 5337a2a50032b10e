"""A pool whose files were damaged: one error that names the file, never a traceback of the reader's."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from prereq.graph.canonical import canonical_json
from prereq.graph.errors import ManifestError
from prereq.selector.rounds.pool import Pool, read_holdout
from prereq.selector.storage import Folder


def draw_everything(path):
    pool = Pool(str(path))
    pool.arms()
    return sum(pool.read_rows(arm, np.arange(layout.rows)).num_rows for arm, layout in enumerate(pool.layouts))


@pytest.mark.parametrize("key", ["arms", "skills", "documents", "holdout"])
def test_a_manifest_with_a_value_of_the_wrong_type_names_the_key(make_pool, key):
    path = make_pool()
    manifest = json.loads((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_bytes(canonical_json({**manifest, key: None}))
    with pytest.raises(ManifestError, match=rf"manifest\.json: {key} is None, expected"):
        Pool(str(path))


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: d[: len(d) // 2], lambda d: d[:-1] + b"\0"])
@pytest.mark.parametrize("kind", ["arms.parquet", "part-*.parquet"])
def test_a_file_that_is_no_parquet_is_named(make_pool, kind, damage):
    path = make_pool()
    file = sorted(path.glob(kind))[0]
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(damage(data))
    with pytest.raises(ManifestError, match=rf"{file.name}.*cannot be read .*build the pool again"):
        draw_everything(path)


def test_a_page_that_cannot_be_decoded_is_named_with_its_row_group(make_pool):
    path = make_pool()
    assert draw_everything(path) > 0
    for file in path.glob("part-*.parquet"):
        data = bytearray(file.read_bytes())
        data[4:60] = b"\xff" * 56
        file.unlink()
        file.write_bytes(bytes(data))
    with pytest.raises(ManifestError, match=r"part-.*row group 0: cannot be read"):
        draw_everything(path)


def test_a_holdout_looked_for_in_the_wrong_place_says_where(tmp_path):
    with pytest.raises(ManifestError, match=r"nowhere/manifest\.json: is missing.*current folder.*pool="):
        read_holdout(Folder(tmp_path / "nowhere"), "control")


def test_one_flipped_bit_of_a_document_is_found_when_it_is_read(make_pool):
    """Text stays text under a flipped bit: only the page's checksum can tell."""
    path = make_pool()
    (file,) = path.glob("part-*.parquet")
    chunk = pq.read_metadata(file).row_group(0).column(1)
    data = bytearray(file.read_bytes())
    data[chunk.data_page_offset - 2] ^= 1  # in the body of the dictionary page, where the texts are
    file.unlink()
    file.write_bytes(bytes(data))
    with pytest.raises(ManifestError, match=r"part-.*cannot be read .*checksum"):
        draw_everything(path)
