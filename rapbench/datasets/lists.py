"""Text files that say which images there are: read in one way, refused in one way."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rapbench.core.errors import BadData


def lines(path: Path) -> list[str]:
    """The lines of a text file, stripped; blank ones at its end are left out, others keep their place.

    Raises:
        BadData: 'unreadable list'.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except (OSError, ValueError) as error:
        raise BadData("unreadable list", path, str(error)) from error


def table(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The rows of a CSV file whose first line names its columns, as texts: of these columns, in this order.

    Raises:
        BadData: 'unreadable list'; the message says which columns there are.
    """
    reader = csv.DictReader(lines(path), restval="", skipinitialspace=True)
    try:
        rows, found = list(reader), reader.fieldnames or ()
    except csv.Error as error:
        raise BadData("unreadable list", path, str(error)) from error
    if not set(columns) <= set(found):
        raise BadData(
            "unreadable list", path, f"its first line is {','.join(found)!r} and has to name {','.join(columns)}"
        )
    return [tuple(row[column].strip() for column in columns) for row in rows]


def refuse_repeated(ids: Iterable[str], where: object) -> None:
    """Refuses ids that name two images.

    Raises:
        BadData: 'image listed twice'; the message names the first such id and counts the others.
    """
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        others = f" and {len(repeated) - 1} more" if len(repeated) > 1 else ""
        raise BadData("image listed twice", where, repeated[0] + others)
