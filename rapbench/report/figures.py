"""Figures by name, what each needs of the store, and files that are the same bytes for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from matplotlib import style

from rapbench.core.catalogue import Catalogue, Entry
from rapbench.core.errors import BadConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

FIGURES = Catalogue(
    "figure",
    {
        "rap2020/figure7": Entry(
            "rapbench.report.curves:Figure7", "accuracy while the least relevant pixels are erased (Nam et al. 2020)"
        ),
        "pattern2017/figure3": Entry(
            "rapbench.report.pattern_figures:Figure3", "quality of signal estimators by layer (Kindermans et al. 2018)"
        ),
        "pattern2017/figure4a": Entry(
            "rapbench.report.pattern_figures:Figure4a", "probability as patches are erased (Kindermans et al. 2018)"
        ),
        "deeplift2017/figure4": Entry(
            "rapbench.report.digit_figures:Figure4", "one digit turned into another (Shrikumar et al. 2017)"
        ),
        "perturbation": Entry("rapbench.report.curves:PerturbationCurves", "the curves of rap2020/figure7, of any run"),
    },
)

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
}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What the store holds of one method and one metric.

    Attributes:
        identity: all that the rows depend on.
        display: what tables print: dataset, model, model_title, method, method_title, backend, metric, signed.
        rows: a row an image.
    """

    identity: Mapping[str, Any]
    display: Mapping[str, Any]
    rows: DataFrame


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure with the numbers that it shows.

    Attributes:
        suffix: tells it from the other drawings of the same name; empty where there is no need.
        figure: the picture.
        points: the numbers, a row a point.
    """

    suffix: str
    figure: Figure
    points: DataFrame


class FigureKind(Protocol):
    """A kind of figure; a frozen dataclass whose fields are its options."""

    metric: ClassVar[str]
    """The metric whose rows it shows."""

    @property
    def command(self) -> str:
        """What computes these rows."""
        ...

    def __call__(self, stored: Sequence[Stored]) -> list[Drawing]: ...


def styled() -> AbstractContextManager[None]:
    """Within it, figures are drawn and rendered alike on every machine, legible at the width of a column."""
    return style.context(["default", _STYLE])


def rendered(figure: Figure, form: Form) -> bytes:
    """The bytes of a picture file, without dates."""
    content = io.BytesIO()
    with styled():
        figure.savefig(content, format=form, metadata=_UNDATED[form])
    return content.getvalue()


def form_of(path: Path) -> Form:
    """The form of a picture file that its name asks for.

    Raises:
        BadConfig: there is no such form.
    """
    for form in FORMS:
        if path.suffix.lower() == f".{form}":
            return form
    raise BadConfig(f"cannot write {path}: pictures are files ending in .{', .'.join(FORMS)}")


def label(title: str, method: str, backend: str) -> str:
    """How a figure calls a method: its title, parameters that are not defaults, a backend that is not native."""
    _, bracket, parameters = method.partition("(")
    foreign = "" if backend == "native" else f" [{backend}]"
    return title + (f" ({parameters}" if bracket else "") + foreign
