"""Which readings of a cell there are, which is closest, and when none comes near."""

from __future__ import annotations

import json

import pytest
from stored import masks, ratios, scored

from rapbench.papers import sweep
from rapbench.papers.card import table
from rapbench.papers.comparison import Panel, compared
from rapbench.papers.sweep import Swept, swept
from rapbench.report.formats import Document, Format, rendered
from rapbench.report.result import Scored
from rapbench.results.select import Filter, names

TABLE = table("rap2020/table1")


def panels(*cells: Scored, **selection: str) -> list[Panel]:
    return compared(TABLE, cells, Filter(**selection))  # type: ignore[arg-type]


def cells(*stored: Scored) -> dict[tuple[str, str], Swept]:
    return {(cell.panel.column.name, cell.entry.row.name): cell for cell in swept(panels(*stored))}


def document(*stored: Scored, closest: int = 8, **selection: str) -> Document:
    return sweep.document("rap2020/table1", TABLE, panels(*stored, **selection), closest=closest)


def test_readings_are_ordered_by_distance_from_the_published_number() -> None:
    found = cells(scored("rap", ratios([0.1, 0.3, 0.9])))["vgg16_all", "rap"].readings
    values = [reading.result.estimate.value for reading in found]
    assert sorted(values, key=lambda value: abs((value or 0) - 0.252)) == values
    assert (found[0].result.variant, values[0]) == ("all_median", 0.3)
    assert {reading.result.variant for reading in found} >= {"all", "all_median", "all_ratio_of_means", "all_signed"}
    assert [reading.result.variant for reading in found if reading.in_table] == ["all"]


def test_a_column_admits_only_readings_of_what_it_says() -> None:
    rows = masks(zero=[[6, 2, 1, 7]])
    found = cells(scored("rap", rows, metric="segmentation", dataset="voc"))
    scores = {
        column: {reading.result.variant.partition("@")[0] for reading in found[column, "rap"].readings}
        for column in ("voc_pix_acc", "voc_miou")
    }
    assert scores == {"voc_pix_acc": {"pixel_accuracy"}, "voc_miou": {"miou", "fg_iou"}}
    assert {"p50", "p90", "mean_abs", "paper"} <= {
        reading.result.variant.partition("@")[2] for reading in found["voc_pix_acc", "rap"].readings
    }


def test_other_parameters_and_backends_of_the_method_are_readings_other_methods_are_not() -> None:
    found = cells(
        scored("lrp_a2b1(bias=innvestigate)", ratios([0.4])),
        scored("lrp_a2b1", ratios([0.5])),
        scored("lrp_a2b1", ratios([0.6]), backend="zennit"),
        scored("lrp_alpha_beta", ratios([0.7])),
    )["vgg16_all", "lrp_a2b1"].readings
    assert [names([r.result.cell])[0] for r in found if r.result.variant == "all"] == [
        *("lrp_a2b1 [zennit]", "lrp_a2b1", "lrp_a2b1(bias=innvestigate)")
    ]


def test_a_reading_counts_though_the_table_itself_lacks_the_row() -> None:
    stored = [scored("rap", ratios([0.2])), scored("lrp_a2b1", ratios([0.6]))]
    found = cells(*stored)["vgg16_all", "lrp_a2b1"]
    assert found.readings[0].distance == pytest.approx(0.016)
    assert not any(reading.in_table for reading in found.readings)


def test_rows_of_another_run_are_no_readings() -> None:
    other = scored("lrp_a2b1", ratios([0.6]), seed=1)
    assert ("vgg16_all", "lrp_a2b1") not in cells(scored("rap", ratios([0.2])), other)


def test_a_cell_without_a_published_number_is_not_swept() -> None:
    assert ("vgg16_pos", "random") not in cells(scored("random", ratios([0.2])))
    assert not cells(scored("random", ratios([0.2])))


@pytest.mark.parametrize(
    ("values", "near"),
    [
        ([0.26] * 3, True),  # 3 % off
        ([0.27] * 3, False),  # 7 % off, and an interval without width
        ([0.1, 0.2, 0.5, 0.6], True),  # far off, but the interval is wide
    ],
)
def test_near_is_inside_an_interval_or_within_five_percent(values: list[float], near: bool) -> None:
    rows = ratios(values).assign(positive_inside=1.0)
    cell = cells(scored("rap", rows))["vgg16_all", "rap"]
    readings = [reading for reading in cell.readings if reading.result.variant == "all"]
    assert [reading.is_near for reading in readings] == [near]


def test_the_document_marks_the_closest_and_the_tables_own_reading() -> None:
    found = document(scored("rap", ratios([0.1, 0.3, 0.9])))
    summary, _, detail, *_ = found.grids
    assert summary.rows[0][:6] == (
        *("RAP", "Outside-inside ratio, ALL", "vgg16 on imagenet", "0.252", "rap", "all_median"),
    )
    marks = {row[2].split(" ")[0]: row[0] for row in detail.rows}
    assert marks["all_median"] == "closest"
    assert marks["all"] == "table"
    assert "published 0.252" in detail.title


def test_the_document_says_when_no_reading_comes_near() -> None:
    summary, _, detail, *_ = document(scored("rap", ratios([9.0, 9.0]))).grids
    assert summary.rows[0][-1] == "none comes near"
    assert "None of" in detail.notes[0]
    summary, _, detail, *_ = document(scored("rap", ratios([0.25, 0.25]))).grids
    assert summary.rows[0][-1] == "near"
    assert "None of" not in detail.notes[0]


def test_the_reading_that_fits_all_methods_of_a_column_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_BEST", 99)
    # per image and method: the means are 10 % and 20 % off, the medians 50 % and 0 %
    published = {"rap": 0.252, "input_gradient": 0.989}
    scales = {"rap": [0.5, 0.5, 2.3], "input_gradient": [1, 1, 1.6]}
    cells = [scored(name, ratios([published[name] * scale for scale in scales[name]])) for name in scales]
    fits = document(*cells).grids[1]
    of_all = {row[2]: row[3:6] for row in fits.rows if row[0] == "Outside-inside ratio, ALL"}
    offs = [float(off.rstrip("%")) for _, _, off in of_all.values()]
    assert offs == sorted(offs)
    assert len(offs) == len({record["variant"] for record in document(*cells).records if "all" in record["column"]})
    assert of_all["all"] == ("table", "2", "15.0%")
    assert of_all["all_median"] == ("", "2", "25.0%")


def test_a_reading_of_other_parameters_does_not_count_for_the_fit_of_a_column() -> None:
    cells = [scored("rap", ratios([9.0])), scored("rap(routing=paper)", ratios([0.252]))]
    fits = document(*cells).grids[1]
    assert all(row[-1] == "0" for row in fits.rows)


def test_equal_values_of_the_same_rows_share_a_line_and_records_keep_them_apart() -> None:
    found = document(scored("rap", masks(zero=[[6, 2, 1, 7]]), metric="segmentation", dataset="voc"))
    accuracy = next(grid for grid in found.grids[2:] if "pixel accuracy" in grid.title)
    (line,) = [row for row in accuracy.rows if row[0].endswith("table")]
    assert line[2].startswith("pixel_accuracy@paper (and ")
    variants = {record["variant"] for record in found.records if record["column"] == "voc_pix_acc"}
    assert {"pixel_accuracy@paper", "pixel_accuracy@zero", "pixel_accuracy@zero:void=object"} <= variants


def test_people_read_the_closest_lines_and_files_hold_all() -> None:
    stored = scored("rap", ratios([0.1, 0.3, 0.9]))
    found = document(stored, closest=2)
    assert len(found.grids[2].rows) == 2
    assert "more are further off" in found.grids[2].notes[0]
    assert found.records == document(stored, closest=50).records
    records = json.loads(rendered(found, Format.JSON))["results"]
    assert [r["rank"] for r in records if r["column"] == "vgg16_all"] == list(
        range(1, 1 + sum(r["column"] == "vgg16_all" for r in records))
    )
    assert sum(r["closest"] for r in records) == len({(r["column"], r["row"]) for r in records})


def test_what_the_printed_numbers_imply_follows_each_said_once() -> None:
    remarks = document(scored("rap", ratios([0.2]))).remarks
    assert any("objects cover 0.267" in remark for remark in remarks)
    assert len(set(remarks)) == len(remarks)


def test_another_setting_is_named_in_every_grid() -> None:
    found = document(scored("rap", ratios([0.2]), dataset="scenes"), dataset="scenes")
    assert all("beside numbers published for" in grid.title for grid in found.grids[2:])
