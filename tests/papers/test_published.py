"""The document of a paper's table."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from stored import cell, held, masks, ratios, scored

from rapbench.papers import published
from rapbench.papers.card import table
from rapbench.papers.comparison import against, compared
from rapbench.report.best import LEGEND
from rapbench.report.formats import Document, Format, Grid, rendered
from rapbench.report.result import Scored
from rapbench.results.select import Filter

TABLE = table("rap2020/table1")


def document(*cells: Scored, name: str = "rap2020/table1", **selection: object) -> Document:
    card = table(name)
    panels = compared(card, cells, Filter(**selection))  # type: ignore[arg-type]
    return published.document(name, card, panels, against(card, "rap"), "rapbench run --part {}".format)


def line(grid: Grid, title: str) -> dict[str, str]:
    """A row by the titles of its columns, the first of two that are alike."""
    (row,) = [row for row in grid.rows if row[0] == title]
    return dict(reversed(list(zip(grid.header, row, strict=True))))


def test_a_line_reads_published_ours_interval_difference_and_images() -> None:
    grid = document(scored("rap", ratios([0.2, 0.2, 0.2])), scored("random", ratios([1.0, 1.0, 1.0]))).grids[0]
    assert grid.title == "Outside-inside ratio, ALL: vgg16 (IMAGENET1K_V1) on imagenet (lower is better)"
    rap, random, missing = (line(grid, title) for title in ("RAP", "Random", "LRP α2β1"))
    assert [rap[key] for key in ("published", "ours", "95 % interval", "difference", "n", "dropped")] == [
        *("0.252", "0.200*", "[0.200, 0.200]", "-0.052", "3", "0")
    ]
    assert (random["published"], random["difference"], random["minus RAP"]) == ("-", "", "+0.800")
    assert (missing["published"], missing["ours"], missing["n"]) == ("0.616", "not run", "")


def test_what_is_not_computed_is_told_from_what_is_not_published_with_the_command_that_computes_it() -> None:
    found = document(scored("rap", ratios([0.2])), scored("gradient", ratios([0.3])))
    ours = {row[0]: row[2] for row in found.grids[0].rows}
    assert (ours["Gradient"], ours["LRP α2β1"], ours["PatternAttribution"]) == ("-", "not run", "not run")
    assert line(found.grids[0], "Gradient")["published"] == "-"
    told = found.remarks[0]
    assert "- no such number" in told
    parts = ",".join(part.name for part in TABLE.parts)
    assert f"not run: not computed yet. `rapbench run --part {parts}` computes it." in told
    assert "What PatternAttribution needs is fitted first" in told


def test_a_complete_table_names_no_command() -> None:
    row, column = TABLE.rows[0], TABLE.columns[0]
    card = TABLE.model_copy(update={"rows": (row,), "columns": (column,)})
    panels = compared(card, [scored("rap", ratios([0.2]))], Filter())
    assert not any("rapbench" in remark for remark in published.document("", card, panels, row, str).remarks)


def test_the_best_of_a_column_is_marked_with_a_legend_and_records_hold_numbers() -> None:
    found = document(
        scored("rap", ratios([0.2, 0.3] * 9)), scored("lrp_a2b1(bias=innvestigate)", ratios([0.5, 0.6] * 9))
    )
    assert [line(found.grids[0], title)["ours"] for title in ("RAP", "LRP α2β1")] == ["0.250*", "0.550"]
    assert LEGEND in found.remarks
    assert found.records[0]["value"] == pytest.approx(0.25)


def test_the_methods_that_are_asked_for_are_the_rows_in_their_order() -> None:
    cells = [scored(name, ratios([0.2])) for name in ("rap", "random", "input_gradient")]
    found = document(*cells, methods=("random", "lrp_a2b1(bias=innvestigate)", "rap"))
    assert [row[0] for row in found.grids[0].rows] == ["Random", "LRP α2β1", "RAP"]
    without = document(*cells, methods=("input_gradient",))
    assert line(without.grids[0], "Input*Gradient")["minus RAP"] == ""


def test_a_run_that_has_not_ended_is_marked_as_in_every_table() -> None:
    half = Scored(held=held(replace(cell("rap"), limit=6), ratios([0.2, 0.2, 0.2])))
    found = document(half)
    assert line(found.grids[0], "RAP")["n"] == "3 of 6"
    assert "not whole: up to 3 of 6 images are not computed yet; the same run goes on" in found.grids[0].notes
    assert (found.records[0]["n"], found.records[0]["n_missing"]) == (3, 3)


def test_every_column_is_shown_even_without_results() -> None:
    grids = document(scored("rap", ratios([0.2]))).grids
    assert len(grids) == len(TABLE.columns)
    assert grids[-1].title == "Segmentation mask, mIOU: no results of vgg16 on voc"
    assert [row[0] for row in grids[-1].rows] == [row.title for row in TABLE.rows]


def test_images_without_a_value_are_counted_with_their_reasons() -> None:
    rows = ratios([0.2, 0.3, 0.4]).assign(area_inside=[0, 1, 1])
    grid = document(scored("rap", rows, skipped={"unreadable image": 2})).grids[0]
    assert line(grid, "RAP")["dropped"] == "3"
    assert "Dropped: 2 unreadable image, 1 no boxes (RAP)." in grid.notes


def test_numbers_of_the_same_setting_are_not_called_foreign() -> None:
    grid = document(scored("rap", ratios([0.2]))).grids[0]
    assert grid.notes == ("Published numbers are of VGG-16 on 10,000 correctly classified images of ImageNet.",)


@pytest.mark.parametrize(
    ("chosen", "selection", "told"),
    [
        ({"model": "alexnet"}, {"model": "alexnet"}, "another network, alexnet (IMAGENET1K_V1)"),
        ({"dataset": "scenes"}, {"dataset": "scenes"}, "another data set, scenes"),
        ({"weights": "random"}, {}, "other weights, vgg16 (random)"),
        (
            {"weights": "scenes", "dataset": "scenes"},
            {"dataset": "scenes"},
            "other weights, vgg16 (scenes) and another data set, scenes",
        ),
    ],
)
def test_numbers_of_another_setting_say_so_in_heading_and_note(
    chosen: dict[str, str], selection: dict[str, str], told: str
) -> None:
    found = document(scored("rap", ratios([0.2]), **chosen), **selection)
    grid = found.grids[0]
    assert grid.title.endswith("beside numbers published for VGG-16 on 10,000 correctly classified images of ImageNet")
    assert f"Ours are of {told}: there is nothing to reproduce here." in grid.notes[0]
    assert found.records[0]["same_setting"] is False


def test_the_network_that_the_paper_took_is_not_another_one() -> None:
    cell = scored("rap", ratios([0.2]), model="alexnet", weights="a.h5")
    first, *_ = document(cell, model="alexnet").records
    assert first["same_setting"] is False
    parts = {column.name: column.part.model_copy(update={"also": ("alexnet",)}) for column in TABLE.columns}
    columns = [column.model_copy(update={"part": parts[column.name]}) for column in TABLE.columns]
    card = TABLE.model_copy(update={"columns": tuple(columns)})
    (panel, *_) = compared(card, [cell], Filter(model="alexnet"))
    assert published.unlike(card, panel) == []


def test_records_hold_every_cell_in_full_precision() -> None:
    found = document(scored("rap", ratios([0.2, 1 / 3])), scored("input_gradient", ratios([0.5, 0.7])))
    assert len(found.records) == len(TABLE.rows) * len(TABLE.columns)
    records = {(r["column"], r["row"]): r for r in json.loads(rendered(found, Format.JSON))["results"]}
    assert all(set(record) == set(found.records[0]) for record in records.values())
    rap = records["vgg16_all", "rap"]
    assert rap["value"] == (0.2 + 1 / 3) / 2
    assert rap["difference"] == rap["value"] - 0.252
    assert (rap["n"], rap["n_dropped"], rap["same_setting"], rap["against"]) == (2, 0, True, "rap")
    other = records["vgg16_all", "input_gradient"]
    assert other["paired_value"] == pytest.approx(0.6 - rap["value"])
    assert (other["paired_n"], rap["paired_n"]) == (2, 0)
    assert records["voc_miou", "pattern_attribution"]["published"] is None


def test_quoted_numbers_stand_without_ours_and_only_where_there_are_any() -> None:
    rows = masks(zero=[[6, 0, 0, 10]])
    cell = scored("rap", rows, metric="segmentation", dataset="imagenet_segmentation")
    miou, foreground = document(cell, name="rap2020/table2").grids
    assert line(miou, "Xiong et al. 2018")["published"] == "64.22"
    assert line(miou, "Xiong et al. 2018")["ours"] == "-"
    assert "Xiong et al. 2018" not in [row[0] for row in foreground.rows]
    assert line(foreground, "RAP (Ours)")["ours"] == "100.00"


@pytest.mark.parametrize("form", Format)
def test_the_table_can_be_written_in_every_format(form: Format) -> None:
    text = rendered(document(scored("rap", ratios([0.2, 0.3]))), form)
    assert "0.252" in text
    assert "Integrated Gradients" in text


def test_a_row_whose_mean_and_ranks_disagree_is_marked_and_gives_the_median_image() -> None:
    ours, reference = [0.1] * 19 + [9.0], [0.2] * 20
    grid = document(scored("rap", ratios(reference)), scored("input_gradient", ratios(ours))).grids[0]
    assert line(grid, "Input*Gradient")["effect"].endswith(", median -0.100")
    agreeing = document(scored("rap", ratios(reference)), scored("input_gradient", ratios([0.1] * 20))).grids[0]
    assert "median" not in line(agreeing, "Input*Gradient")["effect"]
