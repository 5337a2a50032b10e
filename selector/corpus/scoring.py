"""Scores of documents: what a score is made from, and which documents a filter by it keeps.

The methods themselves are `dsir`, `mass` and `quality`; the stages are in `jobs.stages.score`.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prereq.graph.errors import ConfigError
from prereq.selector.corpus.documents import RESERVED_COLUMNS
from prereq.selector.corpus.dsir import gumbel_noise
from prereq.selector.corpus.keys import KeyArray

FloatArray = NDArray[np.float64]

METHODS = ("dsir", "mass", "quality", "column", "file")
_OF_FILES = ("id_field", "value_field", "missing")  # keys of method file, which came after the first scored pools
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """One score of every document, a metadata column of the pool, and maybe a filter by it."""

    name: str  # the column; a letter, then letters, digits and "_"
    # dsir: log importance weight (nats) toward the target texts; mass: nearness to the skills of a reference set;
    # quality: log-odds (nats) of being like `paths` and unlike `negatives`; column: the metadata column `name` itself;
    # file: computed elsewhere, a row of id and value for each document, such as `prereq influence` writes
    method: Literal["dsir", "mass", "quality", "column", "file"]
    # dsir: target texts; mass: items with the skills that each needs; quality: examples of what is wanted; file: scores
    paths: tuple[str, ...] = ()  # files, folders, globs or URLs, as for sources
    negatives: tuple[str, ...] = ()  # quality: examples of what is not wanted; none: documents of the corpus
    text_field: str = "text"  # field of a text in these files; dotted for a field inside a field
    skills_field: str = "skills"  # mass: field with a list of ids of the graph's skills
    characters: int = 20_000  # of a text that are read, documents and examples alike
    examples: int = 10_000  # quality: texts of each kind to learn from, at most, drawn by seed
    per_gram: bool = False  # dsir: divide by the number of n-grams, so that long documents do not lead by length
    # mass: linear (similarity by weighted degree) or compositional (rewards skills that occur together)
    combine: Literal["linear", "compositional"] = "compositional"
    nearest: int | None = None  # mass, compositional: skills of a document that count, its nearest; None: all
    id_field: str = "id"  # file: field of the document's id, text or a whole number
    value_field: str = "value"  # file: field of the score, a finite number
    # file: documents without a row are an error, stay whatever the filter says (keep), or leave the pool (drop)
    missing: Literal["error", "keep", "drop"] = "error"
    drop_below: float | None = None  # documents with a lower score leave the pool; None: none does
    keep_share: float | None = None  # share of the documents that stays, above 0 and at most 1; None: all
    draw: Literal["best", "sample"] = "best"  # keep_share: the best, or drawn by exp(score) (dsir's resampling)

    def __post_init__(self) -> None:
        """Check the keys; raises ConfigError."""
        where = f"scoring: score {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"{where}: a name is a letter, then letters, digits and _, 64 at most")
        if self.name in RESERVED_COLUMNS:
            raise ConfigError(f"{where}: is a column of prereq itself; choose another name")
        if self.method not in METHODS:
            raise ConfigError(f"{where}: method {self.method!r} is unknown; choose one of {', '.join(METHODS)}")
        for key in ("paths", "negatives"):
            value = getattr(self, key)
            if isinstance(value, str) or not all(isinstance(path, str) and path for path in value):
                raise ConfigError(f"{where}: {key} must be a list of non-empty strings, got {value!r}")
            object.__setattr__(self, key, tuple(value))
        if (self.method == "column") == bool(self.paths):
            raise ConfigError(f"{where}: method {self.method} needs " + ("no paths" if self.paths else "paths"))
        if self.negatives and self.method != "quality":
            raise ConfigError(f"{where}: negatives go with method quality")
        if not all((self.text_field, self.skills_field, self.id_field, self.value_field)):
            raise ConfigError(f"{where}: text_field, skills_field, id_field and value_field must not be empty")
        if self.missing not in ("error", "keep", "drop"):
            raise ConfigError(f"{where}: missing must be error, keep or drop, got {self.missing!r}")
        if self.missing != "error" and self.method != "file":
            raise ConfigError(f"{where}: missing goes with method file; the others score every document")
        for key, least in (("characters", 1), ("examples", 2), ("nearest", 1)):
            number = getattr(self, key)
            if number is not None and number < least:
                raise ConfigError(f"{where}: {key} must be {least} or more, got {number}")
        self._check_filter(where)

    def _check_filter(self, where: str) -> None:
        if self.combine not in ("linear", "compositional"):
            raise ConfigError(f"{where}: combine must be linear or compositional, got {self.combine!r}")
        if self.draw not in ("best", "sample"):
            raise ConfigError(f"{where}: draw must be best or sample, got {self.draw!r}")
        if self.drop_below is not None and self.keep_share is not None:
            raise ConfigError(f"{where}: set drop_below or keep_share, not both")
        if self.keep_share is not None and not 0.0 < self.keep_share <= 1.0:
            raise ConfigError(f"{where}: keep_share must be above 0 and at most 1, got {self.keep_share}")
        if self.draw == "sample" and (self.keep_share is None or self.method != "dsir"):
            raise ConfigError(f"{where}: draw: sample goes with keep_share and method dsir (log weights)")

    @property
    def filters(self) -> bool:
        """Whether documents leave the pool by this score."""
        return self.drop_below is not None or self.keep_share is not None or self.missing == "drop"

    def plain(self) -> dict[str, Any]:
        """All keys as plain values; those of method file only there, so that older scores are the same scores."""
        return {key: value for key, value in asdict(self).items() if self.method == "file" or key not in _OF_FILES}


def kept_by(scores: FloatArray, keys: KeyArray, config: ScoreConfig, seed: int) -> NDArray[np.bool_]:
    """Which documents a score's filter keeps, `(n,)`; whatever their order, but for equal keys.

    Args:
        scores: `(n,)`, finite.
        keys: `id_keys` of their ids, which break ties.
        config: `filters` is true.
        seed: Of the draw, where documents are drawn.
    """
    if config.drop_below is not None:
        return scores >= config.drop_below
    if config.keep_share is None:
        return np.ones(len(scores), dtype=np.bool_)
    count = max(1, round(config.keep_share * len(scores))) if len(scores) else 0
    value = scores + gumbel_noise(keys, seed, f"scoring {config.name}") if config.draw == "sample" else scores
    kept = np.zeros(len(scores), dtype=np.bool_)
    kept[np.lexsort((keys, -value))[:count]] = True
    return kept


def as_text(value: float) -> str:
    """How a score is written: nine significant digits, whichever way a linear algebra library adds up."""
    return f"{value + 0.0:.9g}"  # -0.0 becomes 0
