"""Text files that say which images there are: read in one way, refused in one way."""

from collections import Counter
from collections.abc import Iterable
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


def refuse_repeated(ids: Iterable[str], where: object) -> None:
    """Refuses ids that name two images.

    Raises:
        BadData: 'image listed twice'; the message names the first such id and counts the others.
    """
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        others = f" and {len(repeated) - 1} more" if len(repeated) > 1 else ""
        raise BadData("image listed twice", where, repeated[0] + others)
