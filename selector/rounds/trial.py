"""A report tried on the run's mixer where it is made: what the sampler would refuse for good is never recorded."""

import logging

import numpy as np

from prereq.graph.errors import FeedbackError, PrereqError
from prereq.graph.influence import decode_influence
from prereq.selector.mixers import make_mixer
from prereq.selector.mixers.protocol import Mixer, Observation
from prereq.selector.mixers.simplex import FloatArray
from prereq.selector.rounds.feedback import Feedback
from prereq.selector.rounds.pool import Pool
from prereq.selector.rounds.run import RunInfo
from prereq.selector.storage import Folder

_log = logging.getLogger(__name__)


def observe(report: Feedback, drawn_tokens: FloatArray) -> Observation:
    """A report as a mixer sees it.

    Args:
        report: The report.
        drawn_tokens: Tokens drawn per arm `(n,)` since the report before.
    """
    return Observation(
        round=None if report.round == "initial" else report.round,
        losses=report.losses,
        eval_tokens=report.eval_tokens,
        arm_losses=report.arm_losses,
        signals=report.signals or {},
        drawn_tokens=drawn_tokens,
        tokens_seen=report.tokens_seen,
    )


class Trial:
    """The mixer of a run, in a process that reports to it.

    Args:
        run: The run's folder.
        info: What `run.json` says.
        pool: The pool's folder.
    """

    def __init__(self, run: Folder, info: RunInfo, pool: str) -> None:
        self._run, self._info, self._pool = run, info, pool
        self._mixer: Mixer | None = None
        self._arms = 0
        self._told = False

    def check(self, report: Feedback) -> None:
        """Put a report through `update` on the mixer's first state, and forget the result.

        What a mixer refuses does not depend on its state but for the order of reports, which the sampler keeps. Where
        the pool cannot be read, there is nothing to try it on, which was said in the log.

        Raises:
            FeedbackError: The mixer refuses it.
        """
        if self._mixer is None and self._info.uses_feedback and self._info.parameters is not None:
            self._mixer = self._open()  # once more at each report: a sampler may be just starting
        if self._mixer is None:
            return
        try:
            self._mixer.update(self._mixer.init(), observe(report, np.zeros(self._arms)))
        except FeedbackError as error:
            raise FeedbackError(f"{error}; nothing was recorded") from error

    def _open(self) -> Mixer | None:
        info = self._info
        try:
            arms = Pool(self._pool).arms()
            known = self._run.exists("influence.parquet")
            influence = decode_influence(self._run.read("influence.parquet"), "influence.parquet") if known else None
            self._arms = len(arms.ids)
            return make_mixer(info.mixer, info.parameters or {}, arms, influence)
        except (PrereqError, OSError) as error:
            log = _log.debug if self._told else _log.warning
            self._told = True
            log(
                "%s: reports cannot be tried on the mixer before they are recorded (%s); the sampler will check them",
                self._run.name,
                error,
            )
            return None
