"""What a number that a user types may be: said at its field, held where calls and specs are built."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

_MOST = 10**9
_LARGEST = 2**63 - 1

Count = Annotated[int, Field(ge=1, le=_MOST)]
"""How many there are of something that there must be."""
Several = Annotated[int, Field(ge=2, le=_MOST)]
"""How many, where one alone is too few."""
Whole = Annotated[int, Field(ge=0, le=_MOST)]
"""How many there are of something that there may be none of."""
Seed = Annotated[int, Field(ge=0, le=_LARGEST)]
"""Where random numbers start."""
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


def within_reach(value: Any) -> Any:
    """The value, unless it is a number that no parameter may be: one that is not finite or beyond 64 bits.

    Raises:
        ValueError: it is.
    """
    if isinstance(value, int | float) and not abs(value) <= _LARGEST:
        raise ValueError("Input should be finite and less than 2^63 in magnitude")
    return value
