"""Images with the maps of all methods side by side, chosen by rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rapbench.report.boxes import image_scores
from rapbench.report.formats import number
from rapbench.report.html.markup import Attributes, Markup, classed, element, joined, prose
from rapbench.report.html.parts import Part, Worth, embedded, heading
from rapbench.report.html.raster import PERCENTILE, Box, map_png, outline, photo_webp
from rapbench.report.html.tables import Row, column, row_head, table
from rapbench.report.picks import PERCENTILES, Pick, Ranking

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from rapbench.report.result import Result

_COARSE = 100
"""Pixels of a side up to which single pixels are meant to be seen."""
_NAMES = {0: "best", 50: "median", 100: "worst"}
COLOURS = (
    "Every map is the relevance summed over channels, in Matplotlib's colours seismic: blue speaks against the class, "
    f"white is zero, red speaks for it. The colours of a map end at percentile {PERCENTILE:g} of its own magnitudes, "
    "alike on both sides of zero; maps without negative relevance begin at white. Lines are the object's mask or boxes."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A picture with its maps.

    Attributes:
        id: the data set's name of it.
        caption: explained class, its logit and probability.
        photo: (H, W, 3) or (H, W, 1) in [0, 1].
        mask: (H, W) where the object is; None where that is not known.
        boxes: edges (col0, row0, col1, row1) of the object's boxes.
        maps: signed pixel maps (h, w) by the method's name.
    """

    id: str
    caption: str
    photo: NDArray[Any]
    mask: NDArray[np.bool_] | None
    boxes: Sequence[Box]
    maps: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """The images of a run that are shown.

    Attributes:
        title: network and images.
        ranked: how images are ranked.
        picks: which are shown, and for which method.
        shown: by id, those that are there.
        beside: of each metric, by the method's name, the number of which images have scores.
        notes: what is to be known of it.
    """

    title: str
    ranked: Ranking
    picks: Sequence[Pick]
    shown: Mapping[str, Shown]
    beside: Mapping[str, Mapping[str, Result]]
    notes: tuple[str, ...] = ()


def parts(found: Gallery, name: str, cure: str) -> tuple[Part, ...]:
    """The gallery of a run: its rule, which image is at which percentile, and the images.

    Args:
        found: what is shown.
        name: its address within the page.
        cure: how else to get pictures that are left out.
    """
    places = {image: f"{name}-p{n}" for n, image in enumerate(dict.fromkeys(pick.image for pick in found.picks))}
    told = [prose(text, "note") for text in (found.ranked.rule, _beside(found), COLOURS, *found.notes)]
    head = joined([heading(found.title, name), *told, _index(found, places, f"{name}-index")])
    scores = {metric: {m: image_scores(r) for m, r in numbers.items()} for metric, numbers in found.beside.items()}
    pictures = [
        Part(
            content=_picture(found.shown[image], found, scores, place),
            worth=Worth.PICTURE,
            what=f"pictures of the gallery of {found.title}",
            cure=cure,
            name=place,
        )
        for image, place in places.items()
        if image in found.shown
    ]
    return (Part(content=head), *pictures)


def _beside(found: Gallery) -> str:
    """What stands below a map."""
    variants = {metric: dict.fromkeys(r.variant for r in numbers.values()) for metric, numbers in found.beside.items()}
    told = [f"{metric} ({' or '.join(names)})" for metric, names in variants.items()]
    return f"Below a map stand the image's own scores: {', '.join(told)}."


def _index(found: Gallery, places: Mapping[str, str], name: str) -> Markup:
    """Methods down, percentiles across: the image's score, which leads to the image."""
    at = {(pick.method, pick.percentile): pick for pick in found.picks}
    header = [column("method", numeric=False), *(column(_called(p)) for p in PERCENTILES)]
    methods = dict.fromkeys(pick.method for pick in found.picks)
    rows = [
        Row(
            cells=(row_head(method), *(_pick(at.get((method, p)), found, places) for p in PERCENTILES)),
            method=f"m{_number(method, found)}",
        )
        for method in methods
    ]
    title = element("h4", {"id": name}, "Which image is at which percentile of a method's ranking")
    return joined([title, table(name, header, rows)])


def _called(percentile: int) -> str:
    return f"P{percentile}" + (f" ({_NAMES[percentile]})" if percentile in _NAMES else "")


def _pick(pick: Pick | None, found: Gallery, places: Mapping[str, str]) -> Markup:
    if pick is None:
        return element("td", {"class": "number none"}, "not shown")
    score, sort = number(pick.score), {"data-sort": repr(pick.score)}
    if pick.image not in found.shown:
        return element("td", {"class": "number", **sort}, score)
    link: Attributes = {"href": f"#{places[pick.image]}", "title": pick.image}
    return element("td", {"class": "number", **sort}, element("a", link, score))


def _picture(
    shown: Shown, found: Gallery, scores: Mapping[str, Mapping[str, pd.Series[float] | None]], place: str
) -> Markup:
    drawn = outline(shown.mask, shown.boxes)
    own = [pick for pick in found.picks if pick.image == shown.id]
    badges = [
        element("li", {"class": "badge"}, f"{_called(pick.percentile)} of {pick.method}, {number(pick.score)}")
        for pick in own
    ]
    photo = _frame(
        photo_webp(shown.photo), "image/webp", f"{shown.id}: the picture", place, _over(drawn, shown, f"{place}-o")
    )
    columns = [_panel("picture", photo, [])]
    for n, (method, values) in enumerate(shown.maps.items()):
        told = [(metric, series.get(method), found.beside[metric].get(method)) for metric, series in scores.items()]
        lines = [_score(metric, of, result, shown.id, found) for metric, of, result in told]
        alt = f"{shown.id}: map of {method}"
        frame = _frame(map_png(values), "image/png", alt, f"{place}-m{n}", _over(drawn, shown, f"{place}-o"))
        columns.append(_panel(method, frame, [line for line in lines if line]))
    title = element("h4", {"id": f"{place}-title"}, shown.id, " ", element("small", {}, shown.caption))
    strip = element("ul", {"class": "strip" if max(shown.photo.shape) > _COARSE else "strip coarse"}, *columns)
    box: Attributes = {"class": "scroll", "tabindex": 0, "role": "region", "aria-labelledby": f"{place}-title"}
    methods = Markup(" ".join(dict.fromkeys(f"m{_number(pick.method, found)}" for pick in own)))
    about: Attributes = {"class": "picture", "id": place, "data-of": methods}
    once = _drawn_once(drawn, f"{place}-o")
    return element(
        "article", about, title, element("ul", {"class": "badges"}, *badges), once, element("div", box, strip)
    )


def _number(method: str, found: Gallery) -> int:
    return list(found.ranked.numbers).index(method)


def _panel(name: str, frame: Markup, lines: Sequence[Markup]) -> Markup:
    caption = element("figcaption", {}, element("strong", {}, name), *lines)
    return element("li", {}, element("figure", {}, frame, caption))


def _frame(content: bytes, kind: str, alt: str, place: str, over: Markup) -> Markup:
    """A picture that grows when it is followed, by its own address where there is no JavaScript."""
    image = element("img", {"src": embedded(content, kind), "alt": alt})
    name = f"{place}-i"
    return element("a", {"class": "frame", "id": name, "href": f"#{name}"}, image, over)


def _drawn_once(drawn: str, name: str) -> Markup:
    """The outline of the object, to be used over each map."""
    if not drawn:
        return Markup()
    path = element("path", {"id": name, "d": drawn, "vector-effect": "non-scaling-stroke"})
    return element("svg", {"class": "hidden", "aria-hidden": "true"}, element("defs", {}, path))


def _over(drawn: str, shown: Shown, name: str) -> Markup:
    """The outline over a picture or a map, seen on light and dark alike."""
    if not drawn:
        return Markup()
    height, width = shown.photo.shape[:2]
    size: Attributes = {"viewBox": f"0 0 {width} {height}", "aria-hidden": "true", "class": "outline"}
    address = f"#{name}"
    return element("svg", size, element("use", {"href": address, "class": "halo"}), element("use", {"href": address}))


def _score(metric: str, scores: pd.Series[float] | None, result: Result | None, image: str, found: Gallery) -> Markup:
    """What an image's map scores; nothing where it has no score."""
    if scores is None or result is None or image not in scores.index:
        return Markup()
    ranks = "ranks" if result in found.ranked.numbers.values() else ""
    about = {"title": f"{metric}: {result.variant}, {result.direction} is better", **classed(f"score {ranks}".strip())}
    return element("span", about, f"{metric} ", element("b", {}, number(float(scores[image]))))
