"""The one configuration of a build, a run or a sweep member: typed, closed, with every default filled in.

The sections are the dataclasses that live beside the code they steer; here they are put together, checked against
each other and turned into identities (digests of the keys that change a result).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from prereq.graph.canonical import canonical_json, digest
from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence, influence_from_graph, load_influence
from prereq.graph.load import load_edges, load_graph
from prereq.graph.skill import Skill
from prereq.graph.skill_graph import SkillGraph
from prereq.jobs.config_errors import explain
from prereq.jobs.config_file import find_config, read_settings, shipped_folder
from prereq.jobs.executor import RayConfig
from prereq.jobs.train.config import LearnConfig, TrainConfig
from prereq.selector.corpus.clustering import ClusteringConfig
from prereq.selector.corpus.decontamination import DecontaminationConfig
from prereq.selector.corpus.documents import IngestConfig, SourceConfig
from prereq.selector.corpus.duplicates import DuplicatesConfig
from prereq.selector.corpus.embedding import WORD_METHODS, EmbeddingConfig
from prereq.selector.corpus.given_vectors import vectors_digest
from prereq.selector.corpus.holdout import HoldoutConfig
from prereq.selector.corpus.layout import LayoutConfig
from prereq.selector.corpus.scoring import ScoreConfig
from prereq.selector.corpus.stores import without_user
from prereq.selector.corpus.tagging import TaggingConfig
from prereq.selector.corpus.text_models import model_digest
from prereq.selector.corpus.tokens import make_tokenizer, tokenizer_identity
from prereq.selector.mixers.registry import mixer_config
from prereq.selector.rounds.config import Policy, SamplerConfig
from prereq.selector.rounds.samples import SamplesConfig

POOL_SECTIONS = (
    "sources",
    "ingest",
    "dedup",
    "embedding",
    "clustering",
    "tagging",
    "holdout",
    "layout",
    "pool",
    "tokenizer",
)


# keys that came after the first pools, with their defaults: a pool that was built before them stays the same pool
_LATER_KEYS: dict[str, dict[str, Any]] = {
    "ingest": {"normalisation": "none"},
    "dedup": {"semantic": None, "score": None},
    "embedding": {
        "pairs": False,
        "idf_power": 1.0,
        "vectors": None,
        "model_path": None,
        "batch_size": 32,
        "max_tokens": 512,
    },
    "clustering": {
        "fine": None,
        "balance": None,
        "merge": None,
        "min_documents": 1,
        "prune_column": None,
        "prune_below": 0.0,
    },
    "tagging": {
        "classifier": "fasttext",
        "classifier_negatives": "siblings",
        "classifier_beta": 1.0,
        "labelled": None,
        "endpoint": None,
        "descriptions_threshold": None,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphConfig:
    """Where the skill graph comes from: exactly one of path, edges and builtin."""

    path: str | None = None  # graph file in the format prereq.graph/1, YAML or JSON
    edges: str | None = None  # CSV `prerequisite,target[,weight]`
    skills: str | None = None  # JSON Lines of skills for `edges`; none: the skills are the ends of the edges
    builtin: str | None = None  # a graph that comes with prereq: python
    on_cycle: Literal["error", "condense"] = "error"  # prerequisites in a circle: refuse, or merge their skills
    on_unknown: Literal["error", "add"] = "error"  # an edge to a skill outside `skills`: refuse, or add the skill
    extra_skills: tuple[str, ...] = ()  # ids of further skills, which have no edges

    def __post_init__(self) -> None:
        given = [name for name in ("path", "edges", "builtin") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(f"graph: set exactly one of path, edges, builtin; got {' and '.join(given) or 'none'}")
        if self.skills is not None and self.edges is None:
            raise ConfigError("graph.skills: goes with graph.edges; a graph file has its own skills")
        if self.extra_skills and (self.edges is None or self.on_cycle == "condense"):
            raise ConfigError("graph.extra_skills: goes with graph.edges and on_cycle: error; else write a graph file")


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluenceConfig:
    """How much training on one skill helps another: from the graph's edges, or from a file."""

    path: str | None = None  # Parquet in the format prereq.influence/1; none: made from the graph
    diagonal: float = 1.0  # of a skill on itself
    edge: float = 0.5  # of a prerequisite on its target, times the edge's weight
    decay: float = 0.0  # per further step along a path of edges; 0: direct edges only


@dataclass(frozen=True, slots=True, kw_only=True)
class MixerConfig:
    """The algorithm that turns losses into the next mixture."""

    name: str = "skill_it"  # one of the mixers in docs/mixers.md
    parameters: dict[str, Any] = field(default_factory=dict)  # of the mixer, by name; absent ones take their defaults
    influence: InfluenceConfig = InfluenceConfig()  # what the mixer knows of skills helping each other

    def __post_init__(self) -> None:
        mixer_config(self.name, self.parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """What belongs to a pool as a whole."""

    seed: int = 0  # of fits, clustering, holdout and stored order; runs have a `seed` of their own

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"pool.seed: must be 0 or more, got {self.seed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkConfig:
    """A run that begins with another run's rounds and goes on with its own mixer."""

    run: str  # folder of the other run
    round: int  # the first round that is drawn anew; those before are the other run's

    def __post_init__(self) -> None:
        if self.round < 1:
            raise ConfigError(f"fork.round: must be 1 or more, got {self.round}")


class RunConfig(BaseModel):
    """Everything about one run and its pool; made by `load_config`."""

    # strict: the text "8" is not the number 8
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    run_dir: str  # folder of the run: rounds, feedback, reports
    pool_dir: str  # folder of the pool; may be shared by many runs
    work_dir: str | None = None  # folder of a build's stages; none: in pool_dir. A pool on an object store needs one
    seed: int = 0  # order in which every arm is drawn, and rows inside a round

    sources: tuple[SourceConfig, ...]  # where the corpus comes from
    ingest: IngestConfig = IngestConfig()  # reading it into parts
    dedup: DuplicatesConfig = DuplicatesConfig()  # exact and near duplicates
    decontaminate: DecontaminationConfig = DecontaminationConfig()  # documents that hold evaluation data
    embedding: EmbeddingConfig = EmbeddingConfig()  # a vector per document
    scoring: tuple[ScoreConfig, ...] = ()  # numbers that say how useful a document is, and filters by them
    clustering: ClusteringConfig = ClusteringConfig()  # groups of similar documents
    graph: GraphConfig  # skills and prerequisites
    tagging: TaggingConfig = TaggingConfig()  # which skills a document is about
    holdout: HoldoutConfig = HoldoutConfig()  # documents that are never drawn
    layout: LayoutConfig = LayoutConfig()  # what an arm is, and the pool's parts
    pool: PoolConfig = PoolConfig()  # the pool as a whole
    tokenizer: str = "bytes"  # what a token is: bytes (of UTF-8), or the path of a tokenizer.json or of NAME.tiktoken

    mixer: MixerConfig = MixerConfig()  # how losses move the mixture
    rounds: int | None = None  # budget in rounds; exactly one of rounds and tokens is set
    tokens: int | None = None  # budget in tokens: the run ends with the first round that reaches it
    batches_per_round: int = 8  # global batches in a round
    global_batch: int = 64  # samples in a global batch, over all ranks
    lookahead: int = 1  # rounds written before the feedback that they would follow
    ahead: int | None = None  # most rounds past the slowest reader (by its checkpoint, progress or reports)
    report_every: int = 1  # only every n-th round is reported
    policy: Policy = "wait"  # missing feedback: wait for it, reuse the last mixture, or stop the run
    feedback_timeout_s: float = 3600.0  # seconds before `reuse` and `stop` act
    keep_rounds: int | None = None  # rounds whose shards stay behind the slowest reader; none: all
    max_epochs: int = 4  # times a document may be drawn
    initial_evaluation: bool = True  # round 0 waits for the untrained model's losses (where the mixer uses losses)
    batches_per_shard: int = 16  # global batches in a shard file, at most
    rows_per_group: int | None = None  # rows of a shard's row groups; none: a divisor of global_batch
    state_every: int = 1  # rounds between two copies of large mixer arrays
    samples: SamplesConfig = SamplesConfig()  # what a row of a shard is

    fork: ForkConfig | None = (
        None  # {run: folder, round: n}: the first n rounds are that run's, later ones this mixer's
    )
    train: TrainConfig = TrainConfig()  # the reference trainer
    learn: LearnConfig = LearnConfig()  # influence learned from short runs of it
    ray: RayConfig = RayConfig()  # where stages run; changes no byte of a result

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.sampler()
        make_tokenizer(self.tokenizer)
        if self.dedup.semantic is not None and self.layout.arms != "cluster":
            raise ConfigError("dedup.semantic: needs layout.arms: cluster; duplicates are looked for inside clusters")
        if self.tagging.uses("descriptions") and self.embedding.method not in WORD_METHODS:
            raise ConfigError(
                "tagging.methods: descriptions needs an embedding of words that the build fits itself; set "
                f"embedding.method to {' or '.join(WORD_METHODS)}, or leave descriptions out"
            )
        if not self.sources:
            raise ConfigError("sources: is empty; name at least one source")
        columns = {column for source in self.sources for column in source.columns()}
        if self.dedup.score is not None and self.dedup.score not in columns:
            raise ConfigError(
                f"dedup.score: no source has a metadata column {self.dedup.score!r}; there are: "
                f"{', '.join(sorted(columns)) or 'none'} (sources.N.metadata)"
            )
        self._check_scores(columns)
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"sources: two sources are named {max(names, key=names.count)!r}; a name tells them apart"
            )
        return self

    def _check_scores(self, columns: set[str]) -> None:
        """Scores have names of their own, and what they are made from is there."""
        names = [score.name for score in self.scoring]
        if len(set(names)) < len(names):
            raise ConfigError(f"scoring: two scores are named {max(names, key=names.count)!r}")
        for score in self.scoring:
            if (score.name in columns) != (score.method == "column"):
                raise ConfigError(
                    f"scoring: score {score.name!r} of method {score.method}: "
                    + ("is the name of a metadata column" if score.name in columns else "no source has such a column")
                    + " (sources.N.metadata)"
                )
            if score.method == "mass" and self.embedding.method not in WORD_METHODS:
                raise ConfigError(
                    f"scoring: score {score.name!r} needs an embedding of words that the build fits itself; set "
                    f"embedding.method to {' or '.join(WORD_METHODS)}, or leave it out"
                )

    def sampler(self) -> SamplerConfig:
        """The keys that steer the run's rounds."""
        return SamplerConfig(**{entry.name: getattr(self, entry.name) for entry in fields(SamplerConfig)})

    def resolved(self) -> dict[str, Any]:
        """Plain values with every default filled in; `RunConfig` can be made of them again.

        User names and passwords are cut out of the sources' URLs, because this is what is written down and shown.
        """
        plain = self.model_dump(mode="json")
        for source in (*plain["sources"], *plain["scoring"]):
            source["paths"] = [without_user(path) for path in source["paths"]]
        for score in plain["scoring"]:
            score["negatives"] = [without_user(path) for path in score["negatives"]]
        if vectors := plain["embedding"]["vectors"]:
            vectors["paths"] = [without_user(path) for path in vectors["paths"]]
        return plain

    def config_digest(self, keys: Iterable[str]) -> str:
        """sha256 of some top-level keys (with all that is below them), by name."""
        resolved = self.resolved()
        return digest({key: resolved[key] for key in keys})

    def pool_settings(self, graph: SkillGraph) -> dict[str, Any]:
        """What a pool is made from, plain values: two pools with equal settings and inputs are equal.

        The graph, the tokenizer, given vectors and a model count by what they say, not by where they lie; folders
        and `ray` change no byte.

        Raises:
            ConfigError: The tokenizer, the vectors or the model cannot be read.
        """
        resolved = self.resolved() | {"tokenizer": tokenizer_identity(self.tokenizer)}
        merged = [list(pair) for pair in sorted(graph.merged.items())]  # decides where stated labels go
        settings = {key: resolved[key] for key in POOL_SECTIONS}
        for section, later in _LATER_KEYS.items():
            settings[section] = {
                key: value for key, value in settings[section].items() if key not in later or value != later[key]
            }
        if self.decontaminate.paths:
            settings["decontaminate"] = resolved["decontaminate"]
        if self.scoring:
            settings["scoring"] = [
                {key: value for key, value in score.items() if key in each.plain()}
                for score, each in zip(resolved["scoring"], self.scoring, strict=True)
            ]
        if self.embedding.vectors is not None:
            vectors = {key: value for key, value in settings["embedding"]["vectors"].items() if key != "paths"}
            settings["embedding"]["vectors"] = vectors | {"content": vectors_digest(self.embedding.vectors)}
        if self.embedding.model_path is not None:
            settings["embedding"]["model_path"] = model_digest(self.embedding.model_path)
        return {**settings, "graph": digest([graph.to_dict(), merged])}


def load_config(path: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration.

    Args:
        path: A YAML file, or the name of a configuration that comes with prereq (`quickstart`).
        overrides: `a.b=1`, put in before anything is checked.

    Raises:
        ConfigError: With the dotted path of every key that is wrong, and the nearest known name of an unknown one.
    """
    file = find_config(path)
    return make_config(read_settings(file, overrides), str(file))


def make_config(settings: Mapping[str, Any], where: str) -> RunConfig:
    """A checked configuration from plain values.

    Args:
        settings: As in a file.
        where: Named in errors.

    Raises:
        ConfigError: As `load_config`.
    """
    try:
        data = canonical_json(dict(settings))
    except UnicodeEncodeError as error:
        raise ConfigError(f"{where}: holds half a character (a lone surrogate); write it out") from error
    except ValueError as error:
        raise ConfigError(f"{where}: holds a number that is not finite; write a finite one") from error
    try:
        return RunConfig.model_validate_json(data)  # JSON: a list may become a tuple, but "8" never a number
    except ValidationError as error:
        raise ConfigError(explain(error, RunConfig, where)) from error


def read_graph(config: GraphConfig) -> SkillGraph:
    """The skill graph that a configuration names.

    Raises:
        GraphError: The graph cannot be used.
        ConfigError: There is no built-in graph of that name.
    """
    if config.path is not None:
        return load_graph(config.path, on_cycle=config.on_cycle)
    if config.edges is not None:
        graph = load_edges(config.edges, config.skills, on_cycle=config.on_cycle, on_unknown=config.on_unknown)
        extra = [Skill(id=skill) for skill in config.extra_skills]
        return SkillGraph(graph.kind, [*graph.skills, *extra], graph.edges) if extra else graph
    folder = shipped_folder() / "graphs"
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if config.builtin not in known:
        raise ConfigError(f"graph.builtin: there is no graph {config.builtin!r}; known: {', '.join(known)}")
    return load_graph(folder / f"{config.builtin}.yaml", on_cycle=config.on_cycle)


def read_influence(config: InfluenceConfig, graph: SkillGraph) -> Influence:
    """The influence matrix that a configuration names.

    Raises:
        GraphError: The file cannot be used.
    """
    if config.path is not None:
        return load_influence(config.path)
    return influence_from_graph(graph, diagonal=config.diagonal, edge=config.edge, decay=config.decay)
