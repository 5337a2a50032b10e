"""Configuration files: plain values only, and overrides in their place."""

from pathlib import Path

import pytest

from prereq.graph.errors import ConfigError
from prereq.jobs.config_file import find_config, parse_yaml, read_settings, shipped_folder


def write(folder: Path, text: str) -> Path:
    """A configuration file."""
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_numbers_read_as_people_mean_them() -> None:
    found = parse_yaml("a: 1e-3\nb: 1E5\nc: -2e+1\nd: 3\ne: 0.5\nf: '1e-3'\ng: e3\nh: true\ni: null", "x")
    assert found == {"a": 0.001, "b": 1e5, "c": -20.0, "d": 3, "e": 0.5, "f": "1e-3", "g": "e3", "h": True, "i": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system ['true']", "x line 1: the tag .*python/object/apply:os.system"),
        ("a: 1\nb: !!binary aGk=", "x line 2: the tag"),
        ("a: !own 3", "x line 1: the tag '!own' is refused"),
        ("a: &n [1]\nb: *n", "an alias"),
        ("a: 2024-01-01", "reads as a date; put it in quotes"),
        ("a: 1\na: 2", "x line 2: the key 'a' is given twice"),
        ("1: 2", "the key '1' does not read as text"),
        ("true: 2", "the key 'true' does not read as text"),
        ("? [a]\n: 2", "does not read as text"),
        ("a: [1", "is not YAML"),
        ("a: \x01", "is not YAML"),
        ("a: 1\n---\nb: 2", "is not YAML"),
        ("[" * 1000, "is not YAML"),
    ],
)
def test_what_is_not_plain_yaml_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "x")


def test_a_tag_never_runs(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with pytest.raises(ConfigError):
        read_settings(write(tmp_path, f"a: !!python/object/apply:pathlib.Path.touch [{target}]"))
    assert not target.exists()


def test_overrides_reach_any_depth(tmp_path: Path) -> None:
    path = write(tmp_path, "a: 1\nsources:\n  - name: x\n  - name: y\nnone:\n")
    overrides = ["a=2", "b.c.d=[1, two]", "sources.1.name=z", "none.k=1e-2", "text=a=b", "empty=", "yes='1'"]
    assert read_settings(path, overrides) == {
        "a": 2,
        "b": {"c": {"d": [1, "two"]}},
        "sources": [{"name": "x"}, {"name": "z"}],
        "none": {"k": 0.01},
        "text": "a=b",
        "empty": None,
        "yes": "1",
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a", "expected key=value"),
        ("=1", "expected key=value"),
        ("a..b=1", "expected key=value"),
        ("a.b=1", "a is a plain value and has no 'b'"),
        ("s.2=1", "s.2 is no position in a list of 1"),
        ("s.x=1", "s.x is no position"),
        ("b.c.0.x=1", "there is no b.c to take 0 of; give all of b.c in one --set"),
        ("a=!!python/none 1", "the tag"),
    ],
)
def test_overrides_that_have_no_place_are_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_settings(write(tmp_path, "a: 1\ns: [1]\n"), [override])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: there is no such file; .*quickstart"):
        find_config(str(tmp_path / "nowhere.yaml"))
    with pytest.raises(ConfigError, match="is a folder"):
        find_config(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        read_settings(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="must hold keys and values, found a list"):
        read_settings(write(tmp_path, "- 1"))


def test_an_empty_file_is_an_empty_configuration(tmp_path: Path) -> None:
    assert read_settings(write(tmp_path, ""), ["a=1"]) == {"a": 1}


def test_shipped_configurations_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("quickstart") == shipped_folder() / "quickstart.yaml"
    (tmp_path / "quickstart").write_text("a: 1")
    assert find_config("quickstart") == Path("quickstart")
