"""Every error that prereq raises on purpose; `prereq` prints one line for it and exits 2.

    PrereqError
    ├── ConfigError    a configuration, a flag or a folder that belongs to another configuration (also ValueError)
    ├── GraphError     a skill graph or an influence matrix (also ValueError)
    ├── TableError     an input file, a table or a part of a stage
    ├── ManifestError  a pool, a round, its shards or their chain
    └── FeedbackError  a report of a trainer (also ValueError)

A message says what was wrong, where, what was expected, and what to do next. A traceback means a bug.
"""


class PrereqError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(PrereqError, ValueError):
    """A configuration that cannot be used, or a folder written under another one."""


class GraphError(PrereqError, ValueError):
    """A skill graph or influence matrix that is malformed."""


class TableError(PrereqError):
    """An input file, a table or a stage part that cannot be read or does not hold what it should."""


class ManifestError(PrereqError):
    """A pool, a round manifest, a shard or their chain that does not hold together."""


class FeedbackError(PrereqError, ValueError):
    """A trainer's report that is malformed or does not belong to this run."""
