"""Figures by name, what each needs of the store, and files that are the same bytes for the same numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol
from zlib import crc32

from matplotlib import style

from rapbench.core.catalogue import Call, Catalogue, Entry, parse_call
from rapbench.core.errors import BadConfig
from rapbench.core.writing import write_whole
from rapbench.methods import METHODS, is_control
from rapbench.report.formats import field_safe, printable
from rapbench.results.select import files_of, foreign

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from rapbench.results.cell import Cell
    from rapbench.results.store import Held

FIGURES = Catalogue(
    "figure",
    {
        "perturbation": Entry(
            "rapbench.report.curves:PerturbationCurves", "accuracy while pixels are erased, of any run"
        ),
        "critical_difference": Entry(
            "rapbench.report.critical_difference:CriticalDifference", "which methods each metric tells apart"
        ),
    },
)
"""Figures of no paper; those of papers are on their cards."""

COLOURS = (
    *("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#882255", "#332288", "#999933", "#44AA99", "#AA4499"),
)
"""Told apart by any kind of colour vision, the first seven best. Source: Okabe and Ito 2008; then Tol 2021, muted."""
_BEST_TOLD, _LEAST_TOLD = 7, 5
GREY = "0.55"
"""Of controls."""
_OFTEN = (
    *("rap", "lrp_a2b1", "lrp_a1b0", "gradient", "input_gradient", "integrated_gradients", "guided_backprop"),
    *("pattern_attribution", "signal_w", "pattern_attribution_a", "deeplift", "grad_cam"),
)
"""Methods that often stand side by side: each has a colour that no other of them has."""

Form = Literal["png", "svg", "pdf"]
FORMS: tuple[Form, ...] = ("png", "svg", "pdf")
_UNDATED: dict[Form, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "savefig.dpi": 300,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.03,
    "svg.hashsalt": "rapbench",  # element ids are hashes of this, not of the clock
    "pdf.fonttype": 42,  # text stays text
    "text.parse_math": False,  # a dollar in a name is a dollar
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure with the numbers that it shows.

    Attributes:
        suffix: tells it from the other drawings of the same name; empty where there is no need.
        figure: the picture.
        points: the numbers, a row a point.
        notes: what is not in it, and why.
    """

    suffix: str
    figure: Figure
    points: DataFrame
    notes: tuple[str, ...] = ()


class FigureKind(Protocol):
    """A kind of figure; a frozen dataclass whose fields are its options."""

    metric: ClassVar[str]
    """The metric whose rows it shows; empty where it takes those of all."""

    def __call__(self, held: Sequence[Held]) -> list[Drawing]: ...


def styled() -> AbstractContextManager[None]:
    """Within it, figures are drawn and rendered alike on every machine, legible at the width of a column."""
    return style.context(["default", _STYLE])


def place(method: str) -> int:
    """Where a method stands in the palette: the same in every figure, whatever else is in it.

    Methods from outside share the last colours with one another.
    """
    listed = list(dict.fromkeys((*_OFTEN, *METHODS)))
    return listed.index(method) if method in listed else _BEST_TOLD + crc32(method.encode()) % _LEAST_TOLD


def colour(method: str) -> str:
    """The colour of a method in every figure, whatever its parameters; controls are grey."""
    return GREY if is_control(method) else COLOURS[place(method) % len(COLOURS)]


def bare(axes: Axes) -> None:
    """Axes without a frame, on a light grid."""
    axes.grid(axis="y", color="0.9", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def rendered(figure: Figure, form: Form) -> bytes:
    """The bytes of a picture file, without dates."""
    content = io.BytesIO()
    with styled():
        figure.savefig(content, format=form, metadata=_UNDATED[form])
    return content.getvalue()


def written(drawing: Drawing, name: str, folder: Path) -> list[Path]:
    """Writes a drawing's picture in every form and its points as CSV; returns the files.

    Raises:
        BadConfig: a file cannot be written.
    """
    stem = file_stem("_".join(filter(None, (name.replace("/", "_").replace(":", "."), drawing.suffix))))
    contents: dict[str, bytes] = {form: rendered(drawing.figure, form) for form in FORMS}
    contents["csv"] = csv_of(drawing.points).encode()
    for suffix, content in contents.items():
        write_whole(folder / f"{stem}.{suffix}", content)
    return [folder / f"{stem}.{suffix}" for suffix in contents]


def file_stem(text: str) -> str:
    """Text as the name of a file on any system: what is no letter, digit, dot, equals sign or dash becomes a dash."""
    return re.sub(r"[^\w.=-]+", "-", text).strip("-.")


def csv_of(points: DataFrame) -> str:
    """The numbers of a figure as CSV that no spreadsheet computes."""
    return points.map(_field).to_csv(index=False)


def _field(value: object) -> object:
    return field_safe(value) if isinstance(value, str) else value


def form_of(path: Path) -> Form:
    """The form of a picture file that its name asks for.

    Raises:
        BadConfig: there is no such form.
    """
    for form in FORMS:
        if path.suffix.lower() == f".{form}":
            return form
    raise BadConfig(f"cannot write {path}: pictures are files ending in .{', .'.join(FORMS)}")


def called(cell: Cell) -> str:
    """How a figure calls a method: its title, parameters that are not defaults, a backend that is not native.

    A file is called by its name without folders, and by what it holds.
    """
    own, call, files = cell.identity.method, parse_call(cell.method), files_of(cell)
    texts = {k: f"{Path(v).name} {str(own.digest)[:6]}" if k in files else v for k, v in call.parameters.items()}
    return label(cell.method_title, str(Call(call.name, texts)), own.backend)


def label(title: str, method: str, backend: str) -> str:
    """How a figure calls a method: its title, parameters that are not defaults, a backend that is not native."""
    _, bracket, parameters = method.partition("(")
    return printable(title + (f" ({parameters}" if bracket else "") + foreign(backend))
