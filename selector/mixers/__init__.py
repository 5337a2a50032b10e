"""Mixers: from losses to the next mixture over arms. numpy only; knows no files and no rounds."""

from prereq.selector.mixers.exponentiated import LOGIT_RANGE_WARNING, sharpness_warning
from prereq.selector.mixers.protocol import Arms, Mixer, Observation, State
from prereq.selector.mixers.registry import MIXERS, MixerKind, make_mixer, mixer_config
from prereq.selector.mixers.shares import NO_SKILL, SkillShares
from prereq.selector.mixers.simplex import apportion, check_simplex, logit_range, softmax, water_fill

__all__ = [
    "LOGIT_RANGE_WARNING",
    "MIXERS",
    "NO_SKILL",
    "Arms",
    "Mixer",
    "MixerKind",
    "Observation",
    "SkillShares",
    "State",
    "apportion",
    "check_simplex",
    "logit_range",
    "make_mixer",
    "mixer_config",
    "sharpness_warning",
    "softmax",
    "water_fill",
]
