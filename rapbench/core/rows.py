"""Rows as metrics and reports read them: a table with a row an image, whose cells may be vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame


def vectors(rows: DataFrame, name: str) -> NDArray[np.float64]:
    """A column of vectors as one array (N, L)."""
    return np.concatenate(rows[name].to_list()).reshape(len(rows), -1).astype(np.float64)
