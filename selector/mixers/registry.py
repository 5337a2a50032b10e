"""The mixers by name: their parameters, and how one is made from a configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from prereq.graph.errors import ConfigError
from prereq.graph.influence import Influence
from prereq.graph.skill import nearest
from prereq.selector.mixers.parameters import PATH
from prereq.selector.mixers.proportional import ProportionalConfig, make_proportional
from prereq.selector.mixers.protocol import Arms, Mixer
from prereq.selector.mixers.skill_it import SkillIt, SkillItConfig
from prereq.selector.mixers.static import StaticConfig, make_static
from prereq.selector.mixers.uniform import UniformConfig, make_uniform


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
        "proportional": MixerKind(config=ProportionalConfig, make=make_proportional),
        "skill_it": MixerKind(config=SkillItConfig, make=SkillIt, needs_influence=True),
        "static": MixerKind(config=StaticConfig, make=make_static),
        "uniform": MixerKind(config=UniformConfig, make=make_uniform),
    }
)
"""Every mixer that a configuration can name."""


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
