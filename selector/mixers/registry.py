"""The mixers by name: their parameters, and how one is made from a configuration."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.graph.skill import nearest
from prereq.selector.mixers.ado import AdoConfig, make_ado
from prereq.selector.mixers.aioli import AioliConfig, make_aioli
from prereq.selector.mixers.curriculum import (
    CurriculumConfig,
    make_anti_curriculum,
    make_curriculum,
    make_prerequisite_order,
)
from prereq.selector.mixers.doge import DogeConfig, make_doge
from prereq.selector.mixers.doremi import DoremiConfig, GroupDroConfig, make_doremi, make_group_dro
from prereq.selector.mixers.missing_skills import MissingSkillsConfig, make_missing_skills
from prereq.selector.mixers.odm import OdmConfig, make_odm
from prereq.selector.mixers.parameters import PATH
from prereq.selector.mixers.phases import PhasesConfig, make_phases
from prereq.selector.mixers.pike import PikeConfig, make_pike
from prereq.selector.mixers.proportional import ProportionalConfig, make_proportional
from prereq.selector.mixers.protocol import Arms, Mixer
from prereq.selector.mixers.quad import QuadConfig, make_quad
from prereq.selector.mixers.refinement import RefinementConfig, make_refinement
from prereq.selector.mixers.skill_bandit import SkillBandit, SkillBanditConfig
from prereq.selector.mixers.skill_it import SkillIt, SkillItConfig
from prereq.selector.mixers.static import StaticConfig, make_static
from prereq.selector.mixers.temperature import TemperatureConfig, make_temperature
from prereq.selector.mixers.uniform import UniformConfig, make_uniform
from prereq.selector.mixers.velocitune import VelocituneConfig, make_velocitune


@dataclass(frozen=True, slots=True, kw_only=True)
class MixerKind:
    """One entry of the registry.

    Attributes:
        config: The frozen dataclass of the mixer's parameters.
        make: (config, arms, influence) -> mixer.
        needs_influence: Whether the influence may not be None.
    """

    config: type[Any]
    make: Callable[[Any, Arms, Any], Mixer]
    needs_influence: bool = False


MIXERS: Mapping[str, MixerKind] = MappingProxyType(
    {
        "ado": MixerKind(config=AdoConfig, make=make_ado),
        "aioli": MixerKind(config=AioliConfig, make=make_aioli),
        "anti_curriculum": MixerKind(config=CurriculumConfig, make=make_anti_curriculum),
        "curriculum": MixerKind(config=CurriculumConfig, make=make_curriculum),
        "doge": MixerKind(config=DogeConfig, make=make_doge),
        "doremi": MixerKind(config=DoremiConfig, make=make_doremi),
        "group_dro": MixerKind(config=GroupDroConfig, make=make_group_dro),
        "missing_skills": MixerKind(config=MissingSkillsConfig, make=make_missing_skills),
        "odm": MixerKind(config=OdmConfig, make=make_odm),
        "phases": MixerKind(config=PhasesConfig, make=make_phases),
        "pike": MixerKind(config=PikeConfig, make=make_pike),
        "prerequisite_order": MixerKind(config=CurriculumConfig, make=make_prerequisite_order, needs_influence=True),
        "proportional": MixerKind(config=ProportionalConfig, make=make_proportional),
        "quad": MixerKind(config=QuadConfig, make=make_quad),
        "refinement": MixerKind(config=RefinementConfig, make=make_refinement),
        "skill_bandit": MixerKind(config=SkillBanditConfig, make=SkillBandit, needs_influence=True),
        "skill_it": MixerKind(config=SkillItConfig, make=SkillIt, needs_influence=True),
        "static": MixerKind(config=StaticConfig, make=make_static),
        "temperature": MixerKind(config=TemperatureConfig, make=make_temperature),
        "uniform": MixerKind(config=UniformConfig, make=make_uniform),
        "velocitune": MixerKind(config=VelocituneConfig, make=make_velocitune),
    }
)
"""Every mixer that a configuration can name."""


# parameters that came after the first runs, with their defaults: a run that was begun before them stays the same run
_LATER_PARAMETERS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "skill_bandit": {"ema_decay": None},
        "skill_it": {"ema_decay": None},
        "static": {"score": None, "temperature": 1.0},
    }
)


def identifying_parameters(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a mixer as plain values, defaults filled in, but for newer ones that are at their defaults.

    Raises:
        ConfigError: As `mixer_config`.
    """
    later = _LATER_PARAMETERS.get(name, {})
    found = asdict(mixer_config(name, parameters))
    return {key: value for key, value in found.items() if key not in later or value != later[key]}


def mixer_config(name: str, parameters: Mapping[str, Any]) -> Any:
    """The checked parameters of a mixer, defaults filled in; needs no pool, so that a bad configuration fails at start.

    Raises:
        ConfigError: An unknown mixer or parameter (with its dotted path and the nearest known name), or a bad value.
    """
    if name not in MIXERS:
        raise ConfigError(f"mixer.name is {name!r}; known mixers: {', '.join(MIXERS)}{nearest(name, MIXERS)}")
    config = MIXERS[name].config
    known = [entry.name for entry in fields(config)]
    for key in parameters:
        if key not in known:
            expected = f"known: {', '.join(known)}" if known else "it has none"
            raise ConfigError(
                f"{PATH}.{key}: the mixer {name} has no such parameter, {expected}{nearest(str(key), known)}"
            )
    return config(**parameters)


def make_mixer(name: str, parameters: Mapping[str, Any], arms: Arms, influence: Influence | None) -> Mixer:
    """Make a mixer from what a configuration says of it.

    Args:
        name: A key of MIXERS.
        parameters: `mixer.parameters` of the configuration; absent ones take their defaults.
        arms: What the mixture is over.
        influence: Rows: skills of the pool; columns: what is evaluated. May be None where the mixer does not read it.

    Raises:
        ConfigError: As `mixer_config`, a missing influence, or parameters that do not fit the pool.
    """
    config = mixer_config(name, parameters)
    kind = MIXERS[name]
    if kind.needs_influence and influence is None:
        raise ConfigError(
            f"mixer.name is {name!r}, which needs an influence matrix; give a graph or use mixer.name: uniform"
        )
    return kind.make(config, arms, influence)
