"""docs/configuration.md says what the code says."""

from dataclasses import dataclass
from pathlib import Path

from prereq.jobs.config_docs import field_comments, make_page

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Sample:
    """Comments in every place in which they may stand."""

    behind: int = 1  # behind the field
    # above the field,
    # on two lines
    above: tuple[int, ...] = (1, 2)
    wrapped: int | None = None  # inside the brackets
    silent: str = "# no comment"

    def method(self) -> int:
        inner = 3  # not of a field
        return inner


def test_comments_are_found_wherever_they_stand() -> None:
    assert field_comments(Sample) == {
        "behind": "behind the field",
        "above": "above the field, on two lines",
        "wrapped": "inside the brackets",
    }


def test_the_page_is_up_to_date() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == make_page(), "run: .venv/bin/python -m prereq.jobs.config_docs > docs/configuration.md"


def test_the_page_lists_every_kind_of_key() -> None:
    page = make_page()
    for key in ("run_dir", "pool.seed", "sources.N.paths", "mixer.influence.edge", "ray.num_cpus", "mixer.parameters."):
        assert f"`{key}" in page
