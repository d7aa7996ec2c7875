"""Files of a folder by name, and the pictures that other files mean by a name."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from rapbench.core.errors import BadData, DataMissing
from rapbench.datasets.lists import refuse_repeated

PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff")


def files_in(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """Path below the folder -> file, ascending: those with such a suffix, in it and its sub-folders, none hidden.

    Raises:
        DataMissing: no such folder.
    """
    if not folder.is_dir():
        raise DataMissing(f"no folder {folder}")
    found = {file.relative_to(folder).as_posix(): file for depth in ("*", "*/*") for file in folder.glob(depth)}
    return {
        name: found[name]
        for name in sorted(found)
        if found[name].suffix.lower() in suffixes and not _is_hidden(name) and found[name].is_file()
    }


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def stem(name: str) -> str:
    """A path without the suffix."""
    return PurePosixPath(name).with_suffix("").as_posix()


class Pictures:
    """Pictures as other files name them: by path or by name alone, with suffix or without.

    Attributes:
        files: id -> file, in order; an id is the path below the folder, without suffix unless two have the same.
    """

    def __init__(self, folder: Path, found: dict[str, Path]) -> None:
        self._folder = folder
        self._meant: defaultdict[str, dict[str, None]] = defaultdict(dict)
        times = Counter(map(stem, found))
        ids = {name: stem(name) if times[stem(name)] == 1 else name for name in found}
        refuse_repeated(ids.values(), folder)
        self.files = {ids[name]: file for name, file in found.items()}
        for name, image_id in ids.items():
            for written in (name, stem(name)):
                self._meant[written][image_id] = self._meant[PurePosixPath(written).name][image_id] = None

    def meant(self, names: Iterable[str], where: Path) -> dict[str, str]:
        """Id -> the name that means it; names of other pictures are left out.

        Raises:
            BadData: 'ambiguous name' where one means two pictures; 'image listed twice' where two mean one.
            DataMissing: none means any.
        """
        names = list(names)
        pairs = [(image_id, name) for name in names for image_id in self._of(name, where)]
        if not pairs:
            raise DataMissing(
                f"{where} is of other pictures than {self._folder}: it names {names[0] if names else 'none'!r}, "
                f"where the pictures are {', '.join(map(repr, list(self.files)[:2]))}, ..."
            )
        refuse_repeated((image_id for image_id, _ in pairs), where)
        return dict(pairs)

    def _of(self, name: str, where: Path) -> Iterable[str]:
        found = self._meant.get(name, {})
        if len(found) > 1:
            raise BadData("ambiguous name", where, f"{name!r} may be {' or '.join(found)}")
        return found
