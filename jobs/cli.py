"""The program `prereq`: verbs in the order of the work, each with a configuration.

Nothing heavy is imported before a verb is chosen, so that `prereq --help` is instant. A `PrereqError` is one line on
stderr and exit 2; a traceback is a bug. Ctrl-C and SIGTERM leave a state from which the same command goes on.
"""

import argparse
import errno
import importlib
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from prereq.graph.errors import ConfigError, PrereqError

_GO_ON = "interrupted; run the same command again to go on"
_STORAGE = {
    errno.ENOSPC: "free space and run the same command again",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) and run the same command again",
    errno.EDQUOT: "free space and run the same command again",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "mend its permissions or choose another path",
    errno.EPERM: "mend its permissions or choose another path",
}

_EXTRAS = {  # a module that the core does without, and the extra that brings it
    **dict.fromkeys(("ahocorasick", "datasketch", "fasttext", "pydantic", "ray", "rich", "scipy", "sklearn"), "jobs"),
    **dict.fromkeys(("threadpoolctl", "yaml", "zstandard"), "jobs"),
    "torch": "train",
    "lightgbm": "solvers",
}

DESCRIPTION = """\
Select pretraining data by what a model should learn next.

  prereq run quickstart          the whole way on this machine: build, sample, train, report
  prereq build my.yaml           corpus -> pool: deduplicated, clustered, tagged against a skill graph
  prereq sample my.yaml          pool -> rounds, moved by the losses that a trainer reports
  prereq graph check my.yaml     is the skill graph sound?
"""
EPILOG = """\
A configuration is a YAML file or the name of a shipped one (quickstart); docs/configuration.md lists every key.
Exit codes: 0 done, 2 something is wrong and said so, 130 and 143 interrupted (the same command goes on).
"""
BUILD = """\
Make a skill graph: the skills of a configuration's graph, with their names and aliases, and new edges.

  --from cooccurrence   skills that one document has: similarity graph
                        --measure cosine (both over the geometric mean of either) or mass (shares of all pairs)
  --from words          likeness of the words of the skills' documents: similarity graph
                        --measure js (1 - JS divergence / ln 2) or bhattacharyya (coefficient)
  --from vectors        cosine of the skills' mean vectors, as the build embedded documents: similarity graph
  --from FILE.parquet   influence that `graph learn` measured: prerequisite graph
                        --measure relative (1: as much as the skill's own training) or drop (as measured)

The first three read the configuration's pool (prereq build); the last takes a graph file instead, too.
Cycles of prerequisites: edges are taken from the strongest on, and one that would close a cycle is dropped.

  prereq graph build my.yaml --from words --top 3 --out near.json
  prereq graph build my.yaml --from learned.parquet --top 3 --least 0.1 --out learned.json
  prereq graph build my.yaml --from words --top 3 --out near.parquet      as influence, for a run over the same pool:
  prereq run my.yaml --set mixer.influence.path=near.parquet

A pool keeps the graph that it was built with: a new one under `graph` in a configuration wants a new pool_dir.
"""
SCORE = """\
How well does a graph agree with a reference? Each is a configuration (its graph), a graph file (.yaml, .json,
.csv), or a learned influence (.parquet). Beside every figure stands what a graph that says nothing gets.

  precision, recall, F1    of the edges
  average precision, AUC   of all pairs, ordered by weight, for finding the reference's edges
  direction                of the pairs that both link, how many point the same way
  NDCG, Regret@k           of the helpers of each skill, ordered by weight, by their weight in the reference:
                           1 is the reference's own order; regret is the share of the best help that is missed
                           where only the first k are tried

A similarity graph has no direction: then none counts. Skills that only one of the two has are left out.

  prereq graph score near.json --reference my.yaml
  prereq graph score my.yaml --reference learned.parquet
"""
INFLUENCE = """\
What does each document of a run's pool do for the control loss of the run's trained model? Written as a file of
scores, by which a build filters (docs/scoring.md). Larger is more useful; below 0, a step on the document harms.

The value of a document z is g' H^-1 grad L(z), to first order what a step on z takes from the loss: g is the sum of
the gradients of the target skills' control losses, H their curvature by K-FAC over attention and feed-forward layers
(train.influence_damping), L(z) the mean loss of z's tokens (of train.signal_windows windows, evenly spread).

It costs one pass forward and backward over the documents that it measures: the first --per-arm of every arm in the
run's seeded order. The others get the mean of their arm, and `measured` says of each which it is. So a filter tells
apart whole arms, and documents only among the measured ones; --per-arm all measures every one.

  prereq run my.yaml                                           a pool, and a model trained on it
  prereq influence runs/mine --out influence.parquet --dry-run     how many documents
  prereq influence runs/mine --out influence.parquet --targets loops,strings
  prereq build better.yaml                                     with another pool_dir, and
      scoring: [{name: useful, method: file, paths: [influence.parquet], keep_share: 0.5, missing: keep}]

The file has no rows for held-out documents; missing: keep leaves them in, to be held out again. The same run, pool
and options give the same bytes, for any number of workers. Stopped, it begins anew.
"""


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: `main_<verb>(config, args)` of a module that is imported when it is called."""

    name: str
    module: str
    help: str
    work: str  # what a dry run says that it would do


VERBS = (
    Verb(
        "build", "prereq.jobs.build", "corpus files -> pool", "{pool_dir}: ingest, dedup, embed, cluster, tag, lay out"
    ),
    Verb("sample", "prereq.jobs.sample", "pool -> rounds for a trainer", "{run_dir}: draw rounds from {pool_dir}"),
    Verb("train", "prereq.jobs.train.loop", "the reference trainer", "{run_dir}: train on rounds and report losses"),
    Verb(
        "run",
        "prereq.jobs.run",
        "build, sample and train on this machine",
        "{pool_dir}, {run_dir}: build, sample, train",
    ),
    Verb("sweep", "prereq.jobs.sweep", "several runs over one pool, compared", "{run_dir}: one run for each member"),
    Verb("report", "prereq.jobs.report", "a run (or its folder) as one HTML page", "{run_dir}: write the report"),
    Verb(
        "inspect",
        "prereq.jobs.inspect",
        "say what a pool or a run (or its folder) holds, and whether it is whole",
        "{run_dir}, {pool_dir}: read only",
    ),
    Verb(
        "export",
        "prereq.jobs.export",
        "a run's rounds (or its folder's) for Megatron, nanoGPT, MosaicML, Hugging Face or Parquet",
        "{run_dir}: read its committed rounds and write them in another format",
    ),
)


def make_parser() -> argparse.ArgumentParser:
    """The command line's parser; verbs whose module is not installed are left out."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("config", help="YAML configuration, or the name of a shipped one (quickstart)")
    shared.add_argument(
        "--set", action="append", default=[], metavar="a.b=1", help="override one key; may be given several times"
    )
    shared.add_argument(
        "--dry-run", action="store_true", help="print the full configuration and the work; write nothing"
    )
    shared.add_argument("--json", action="store_true", help="print the result as JSON")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("prereq", description=DESCRIPTION, epilog=EPILOG, formatter_class=raw)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs, in the order of the work")
    for verb in VERBS:
        if importlib.util.find_spec(verb.module) is not None:
            added = verbs.add_parser(verb.name, parents=[shared], help=verb.help, description=verb.help)
            if verb.name == "sample":
                added.add_argument("--repair", type=int, metavar="N", help="write damaged shards of round N again")
                added.add_argument(
                    "--withdraw", metavar="FILE", help="never draw these documents again: an id per line"
                )
                added.add_argument(
                    "--withdraw-source", action="append", default=[], metavar="NAME", help="nor those of this source"
                )
            if verb.name == "export":
                _add_export_options(added)
            if verb.name == "inspect":
                added.add_argument("--verify", action="store_true", help="check every digest; exit 2 where one fails")
                added.add_argument("--follow", action="store_true", help="a line per round and report until the end")
                added.add_argument("--diversity", action="store_true", help="Vendi scores of the pool and every round")
                added.add_argument("--orders", default="1,2,inf", metavar="q,...", help="of the Vendi scores")
    _add_influence(verbs)
    _add_solve(verbs)
    _add_graph(verbs, shared)
    return parser


def _add_influence(verbs: Any) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    text = "what each document does for a trained run's control loss, as scores that a build filters by"
    added = verbs.add_parser("influence", help=text, description=INFLUENCE, formatter_class=raw)
    added.add_argument("config", metavar="RUN", help="folder of a run that was trained, or the run's configuration")
    added.add_argument("--out", required=True, metavar="FILE", help="Parquet: id, value, measured, arm")
    added.add_argument("--per-arm", default="64", metavar="N", help="documents measured in each arm, or all (64)")
    added.add_argument("--targets", metavar="ID,...", help="skills whose control loss counts (all of the run's)")
    added.add_argument("--workers", type=int, default=1, metavar="N", help="processes, each with train.threads (1)")
    added.add_argument("--set", action="append", default=[], metavar="a.b=1", help="override a configuration's key")
    added.add_argument("--dry-run", action="store_true", help="say what would be measured; write nothing")
    added.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_solve(verbs: Any) -> None:
    text = "proxy runs -> a static mixture (RegMix, Data Mixing Laws, Olmix, CLIMB), or which proxy runs to make"
    solve = verbs.add_parser("solve", help=text, description=text)
    solve.add_argument("sources", nargs="+", help="output folders of sweeps; with --propose also a configuration")
    solve.add_argument("--method", choices=("regmix", "laws", "olmix", "climb"), default="regmix")
    solve.add_argument("--propose", type=int, metavar="N", help="write a sweep of N further proxy runs instead")
    solve.add_argument("--out", required=True, metavar="FILE", help="YAML file that is written")
    solve.add_argument("--output", metavar="DIR", help="with --propose: the sweep's output folder (runs/NAME of FILE)")
    solve.add_argument("--seed", type=int, default=0, help="of what is drawn and simulated")
    solve.add_argument("--tokens", type=float, help="the mixture is for so many tokens: no arm more than four times")
    solve.add_argument("--regressor", choices=("lightgbm", "linear"), default="lightgbm", help="of regmix and climb")
    solve.add_argument("--set", action="append", default=[], metavar="a.b=1", help="override a configuration's key")
    solve.add_argument("--dry-run", action="store_true", help="say what would be written; write nothing")


def _add_graph(verbs: Any, shared: argparse.ArgumentParser) -> None:
    graph = verbs.add_parser("graph", help="check, show, build, learn or score a skill graph")
    actions = graph.add_subparsers(dest="action", metavar="ACTION", required=True)
    help_text = "The graph of a configuration, or a graph file (.yaml, .json, .csv)."
    actions.add_parser("check", parents=[shared], help="is it sound?", description=help_text)
    show = actions.add_parser("show", parents=[shared], help="stages, chains, a drawing", description=help_text)
    show.add_argument("--svg", metavar="FILE", help="draw it into a file")
    _add_graph_build(actions, shared)
    text = "Influence of skills on each other over a built pool: one short run of the reference trainer for each skill."
    learn = actions.add_parser("learn", parents=[shared], help="influence from short training runs", description=text)
    learn.add_argument("--out", required=True, metavar="FILE", help="Parquet for mixer.influence.path")
    raw = argparse.RawDescriptionHelpFormatter
    score = actions.add_parser(
        "score", parents=[shared], help="does it agree with another one?", description=SCORE, formatter_class=raw
    )
    score.add_argument("--reference", required=True, metavar="FILE", help="what it is judged by, of any kind as above")
    score.add_argument("--least", type=float, default=0.0, metavar="X", help="influence above X is an edge (0)")
    score.add_argument("--k", type=int, default=5, metavar="K", help="of Regret@K (5)")


def _add_graph_build(actions: Any, shared: argparse.ArgumentParser) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    build = actions.add_parser(
        "build",
        parents=[shared],
        help="a graph from a pool's documents or a learned influence",
        description=BUILD,
        formatter_class=raw,
    )
    build.add_argument("--from", dest="basis", required=True, metavar="WHAT", help="what edges are made from, as above")
    build.add_argument(
        "--out", required=True, metavar="FILE", help=".json, .yaml, .csv of prerequisites, .parquet of influence"
    )
    build.add_argument("--measure", metavar="NAME", help="what a weight says, as above")
    build.add_argument("--least", type=float, default=0.0, metavar="X", help="no edge of weight X or below (0)")
    build.add_argument("--top", type=int, metavar="N", help="at most the N strongest edges into each skill (all)")
    build.add_argument(
        "--on-cycle", choices=("drop", "error"), help="of prerequisites: drop the weaker edge, or refuse"
    )
    build.add_argument("--documents", type=int, metavar="N", help="words: documents of a skill that are read (500)")


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    formats = "megatron, nanogpt, mds, datasets or parquet"
    parser.add_argument("--to", required=True, metavar="FORMAT", help=formats)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder that is made")
    parser.add_argument("--rounds", default=":", metavar="a:b", help="rounds a to b - 1 (all that are committed)")
    parser.add_argument("--tokenizer", metavar="NAME", help="bytes or a tokenizer.json (the run's own)")
    parser.add_argument("--eod", metavar="TOKEN", help="behind each document: its number or name, or none")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.version:
        from importlib.metadata import version

        print(f"prereq {version('prereq')}")
        return 0
    if args.verb is None:
        parser.print_help()
        return 2
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: _interrupt(received, number))
    try:
        return _run_verb(args)
    except PrereqError as error:
        return _fail(str(error), 2)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _fail(f"this needs {error.name}, which is not installed: pip install 'prereq[{extra}]'", 2)
    except KeyboardInterrupt:
        return _fail(_GO_ON, 128 + (received[0] if received else signal.SIGINT))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: nothing more to say
        return 141
    except OSError as error:
        cause = getattr(error, "cause", error)  # on Ray the error comes wrapped
        number = getattr(cause, "errno", None)
        if number not in _STORAGE:
            raise
        return _fail(f"{getattr(cause, 'filename', None) or 'writing'}: {os.strerror(number)}; {_STORAGE[number]}", 2)


def _interrupt(received: list[int], number: int) -> NoReturn:
    """Treat a signal as Ctrl-C; Ray's waits let no other exception through."""
    received.append(number)
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> int:
    # a message may quote a file's name or a text from outside, whose control characters could drive the terminal
    shown = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in message)
    print(f"prereq: {shown}", file=sys.stderr, flush=True)
    return code


def _run_verb(args: argparse.Namespace) -> int:
    apart = {"build": "prereq.jobs.graph_build", "learn": "prereq.jobs.learn", "score": "prereq.jobs.graph_score"}
    if args.verb == "graph" and args.action in apart:
        return int(getattr(importlib.import_module(apart[args.action]), f"main_graph_{args.action}")(args))
    if args.verb == "graph":
        if args.dry_run:
            print(f"would read {args.config} and write nothing")
            return 0
        commands = importlib.import_module("prereq.jobs.graph_command")
        return int(getattr(commands, f"main_graph_{args.action}")(args))
    if args.verb == "influence":
        return int(importlib.import_module("prereq.jobs.influence").main_influence(args))
    if args.verb == "solve":
        return int(importlib.import_module("prereq.jobs.solve").main_solve(args))
    verb = next(verb for verb in VERBS if verb.name == args.verb)
    if verb.name == "sweep":  # a file of its own kind, which names configurations
        if args.set:
            raise ConfigError(f"--set {args.set[0]}: changes for all runs of a sweep belong under `set:` in its file")
        return int(importlib.import_module(verb.module).main_sweep(args.config, args))
    if verb.name in ("report", "inspect", "export") and _is_folder(args.config):  # a run or a pool, no configuration
        if args.set:
            raise ConfigError(f"--set {args.set[0]}: {args.config} is a folder, not a configuration; leave --set out")
        if args.dry_run:
            print(f"{verb.name} would work on {args.config}")
            return 0
        return int(getattr(importlib.import_module(verb.module), f"main_{verb.name}")(args.config, args))
    from prereq.jobs.config import load_config

    config = load_config(args.config, args.set)
    if args.dry_run:
        return _dry_run(verb, config.resolved(), as_json=args.json)
    return int(getattr(importlib.import_module(verb.module), f"main_{verb.name}")(config, args))


def _is_folder(name: str) -> bool:
    """Whether the name is a folder (or a URL of one) that holds a run or a finished pool."""
    if "://" not in name and not os.path.isdir(name):
        return False
    from prereq.jobs.inspect import kind_of

    if kind_of(name) is None:
        raise ConfigError(f"{name}: holds neither a run (run.json) nor a finished pool (manifest.json)")
    return True


def _dry_run(verb: Verb, resolved: dict[str, Any], *, as_json: bool) -> int:
    """Print the resolved configuration and what would be done."""
    work = verb.work.format(**{key: value for key, value in resolved.items() if isinstance(value, str)})
    if as_json:
        print(json.dumps({"config": resolved, "work": f"{verb.name}: {work}"}, indent=2))
        return 0
    import yaml

    print(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=120), end="")
    print(f"# dry run, nothing is written. {verb.name} would work on {work}")
    return 0
