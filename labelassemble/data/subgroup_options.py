"""The parts `subgroups` and `age_bands` of a configuration."""

from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, Field

from labelassemble.data.subgroups import OLDEST

AGE_BANDS: Final = (18.0, 40.0, 60.0, 80.0)
"""Ages in years at which a band begins."""


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"each subgroup must be named once, got '{name}' twice")
    return names


def _rising(ages: tuple[float, ...]) -> tuple[float, ...]:
    for lower, upper in zip((0.0, *ages), ages, strict=False):
        if not lower < upper <= OLDEST:
            raise ValueError(
                f"age bands must begin at rising ages above 0 and up to {OLDEST} years, got {upper:g}"
            )
    return ages


SubgroupNames: TypeAlias = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[^\x00-\x20]([^\x00-\x1f]*[^\x00-\x20])?$")], ...],
    AfterValidator(_distinct),
]
"""Names of subgroups in a configuration."""
AgeBands: TypeAlias = Annotated[tuple[float, ...], Field(min_length=1), AfterValidator(_rising)]
"""Age bands in a configuration."""
