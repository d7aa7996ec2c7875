"""Which stored rows a paper's table takes, and how its methods are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stored import cell as stored_cell
from stored import held, masks, ratios, scored

from rapbench.core.errors import BadConfig, UnknownName
from rapbench.papers.card import table
from rapbench.papers.comparison import Entry, Panel, against, compared, differences
from rapbench.papers.published import heading, provenance
from rapbench.report.result import Scored
from rapbench.results.select import Filter
from rapbench.results.store import Held, Rows

TABLE = table("rap2020/table1")
RAP = against(TABLE, "rap")


def panels(*cells: Scored, **selection: object) -> dict[str, Panel]:
    return {panel.column.name: panel for panel in compared(TABLE, cells, Filter(**selection))}  # type: ignore[arg-type]


def entries(panel: Panel) -> Mapping[str, Entry]:
    return {entry.row.name: entry for entry in panel.entries}


def test_a_cell_holds_the_published_number_ours_and_their_difference() -> None:
    cell = entries(panels(scored("rap", ratios([0.2, 0.4])))["vgg16_all"])["rap"]
    assert (cell.published, cell.value) == (0.252, pytest.approx(0.3))
    assert cell.difference == pytest.approx(0.3 - 0.252)
    assert cell.result is not None
    assert cell.result.estimate.n == 2


def test_a_row_that_is_not_stored_has_no_value() -> None:
    cell = entries(panels(scored("rap", ratios([0.2])))["vgg16_all"])["lrp_a2b1"]
    assert (cell.published, cell.value, cell.difference) == (0.616, None, None)


def test_an_unsigned_method_has_no_value_where_both_signs_count() -> None:
    found = panels(scored("gradient", ratios([0.2])))
    assert entries(found["vgg16_all"])["gradient"].result is None
    assert entries(found["vgg16_pos"])["gradient"].value == 0.2


def test_each_column_takes_its_own_network_images_and_metric() -> None:
    found = panels(
        scored("rap", ratios([0.1])),
        scored("rap", ratios([0.2]), model="resnet50"),
        scored("rap", masks(zero=[[6, 0, 0, 10]]), metric="segmentation", dataset="voc"),
        scored("rap", masks(zero=[[0, 10, 6, 0]]), metric="segmentation", dataset="imagenet_segmentation"),
    )
    values = {name: entries(panel)["rap"].value for name, panel in found.items()}
    assert values == {
        "vgg16_all": 0.1,
        "vgg16_pos": 0.1,
        "resnet50_all": 0.2,
        "resnet50_pos": 0.2,
        "imagenet_pix_acc": 0,
        "imagenet_miou": 0,
        "voc_pix_acc": 100,
        "voc_miou": 100,
    }


def test_another_class_explained_stands_in_a_table_only_where_it_is_asked_for() -> None:
    usual, labelled = scored("rap", ratios([0.1])), scored("rap", ratios([0.3]), target="label")
    assert entries(panels(labelled)["vgg16_all"])["rap"].result is None
    assert entries(panels(usual, labelled)["vgg16_all"])["rap"].value == 0.1
    panel = panels(usual, labelled, target="label")["vgg16_all"]
    assert entries(panel)["rap"].value == 0.3
    assert ", target label (" in heading(TABLE, panel)
    assert "another class explained, label" in provenance(TABLE, panel)


def test_the_method_must_have_the_parameters_that_the_card_names() -> None:
    plain = scored("lrp_a2b1", ratios([0.3]))
    meant = scored("lrp_a2b1(bias=innvestigate)", ratios([0.4]))
    assert entries(panels(plain)["vgg16_all"])["lrp_a2b1"].result is None
    assert entries(panels(plain, meant)["vgg16_all"])["lrp_a2b1"].value == 0.4


def test_a_column_may_take_another_call_for_a_row() -> None:
    folded = scored("lrp_a2b1(bias=innvestigate)", ratios([0.3]), model="resnet50")
    by_rule = scored("lrp_a2b1(bias=innvestigate, batch_norm=rule)", ratios([0.4]), model="resnet50")
    assert entries(panels(folded)["resnet50_all"])["lrp_a2b1"].result is None
    assert entries(panels(folded, by_rule)["resnet50_all"])["lrp_a2b1"].value == 0.4


def test_a_row_is_filled_by_a_method_with_the_file_that_it_needs_but_not_by_one_with_a_file_for_a_number(
    tmp_path: Path,
) -> None:
    np.save(tmp_path / "x0.npy", np.zeros((3, 2, 2)))
    rows = [TABLE.rows[0].model_copy(update={"name": n, "method": n}) for n in ("pattern_attribution", "deeplift")]
    table = TABLE.model_copy(update={"rows": tuple(rows)})
    own = stored_cell("pattern_attribution", digest="d")
    identity = replace(own.identity, method=replace(own.identity.method, parameters={}))
    typed = replace(own, identity=identity, method="pattern_attribution(patterns=p.safetensors)")
    needed = Scored(held=held(typed, ratios([0.3])))
    instead = scored(f"deeplift(reference={tmp_path}/x0.npy)", ratios([0.3]), digest="d")
    panel = next(p for p in compared(table, [needed, instead], Filter()) if p.column.name == "vgg16_pos")
    found = entries(panel)
    assert (found["pattern_attribution"].value, found["deeplift"].value) == (0.3, None)


def test_a_row_may_stand_for_any_value_of_a_parameter_but_for_one_at_a_time() -> None:
    row = TABLE.rows[0].model_copy(update={"method": "rap(routing=*)"})
    table = TABLE.model_copy(update={"rows": (row,)})
    by_paper, plain = scored("rap(routing=paper)", ratios([0.3])), scored("rap", ratios([0.4]))
    panel = compared(table, [by_paper, plain], Filter())[0]
    assert entries(panel)["rap"].value == 0.3
    again = Scored(held=held(replace(by_paper.cell, method="rap(routing=other)"), ratios([])))
    with pytest.raises(
        BadConfig, match=r"rap\(routing=paper\) and rap\(routing=other\) of vgg16 on imagenet are one row"
    ):
        compared(table, [by_paper, again], Filter())


def test_methods_without_an_image_in_common_have_no_difference() -> None:
    panel = panels(scored("rap", ratios([0.1, 0.2])), scored("input_gradient", ratios([0.3], start=5)))["vgg16_all"]
    assert differences(panel, RAP) == [None] * len(TABLE.rows)


def test_another_backend_is_no_row_of_the_table() -> None:
    foreign = scored("guided_backprop", ratios([0.3]), backend="captum")
    assert not any(panel.measured for panel in panels(foreign).values())


def test_another_network_and_data_set_may_stand_in_every_column() -> None:
    cells = [scored("rap", ratios([0.3]), model="alexnet", dataset="voc")]
    assert not any(panel.measured for panel in panels(*cells).values())
    found = panels(*cells, model="alexnet", dataset="voc")
    assert {name for name, panel in found.items() if panel.measured} == {
        *("vgg16_all", "vgg16_pos", "resnet50_all", "resnet50_pos")
    }
    assert [entries(found[name])["rap"].published for name in ("vgg16_all", "resnet50_all")] == [0.252, 0.164]


@pytest.mark.parametrize(
    ("other", "told", "option"),
    [
        ({"weights": "random"}, "model.weights (IMAGENET1K_V1, random)", "--weights IMAGENET1K_V1"),
        ({"seed": 1}, "seed (0, 1)", "--seed 0"),
        ({"precision": "bf16"}, "precision (bf16, fp32)", "--precision bf16"),
        ({"device": "cuda"}, "device (cpu, cuda)", "--device cpu"),
        ({"select": "correct"}, "dataset.select (all, correct)", "--select all"),
        ({"parameters": {"transform": "crop"}}, "transform (crop, squash)", '--dataset "imagenet(transform=crop)"'),
        ({"rapbench": "2"}, "rapbench (1, 2)", "--out"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_rows_of_several_runs_are_refused_with_what_differs_and_what_narrows(
    other: dict[str, object], told: str, option: str
) -> None:
    given = {"parameters": {"transform": "squash"}}
    one, two = scored("rap", ratios([0.2]), **given), scored("gradient", ratios([0.3]), **(given | other))
    with pytest.raises(BadConfig) as raised:
        panels(one, two)
    message = str(raised.value)
    assert message.startswith("several results of vgg16 on imagenet differ in ")
    assert told in message
    assert option in message
    assert "digest" not in message


@pytest.mark.parametrize(
    "selection",
    [{"weights": "random"}, {"weights": "folder/random"}, {"seed": 1}, {"device": "cuda"}, {"select": "correct"}],
    ids=str,
)
def test_an_option_narrows_to_one_run(selection: dict[str, object]) -> None:
    chosen = {"weights": "random", "seed": 1, "device": "cuda", "select": "correct"}
    cells = [scored("rap", ratios([0.2])), scored("rap", ratios([0.3]), **chosen)]
    assert entries(panels(*cells, **selection)["vgg16_all"])["rap"].value == 0.3


def test_parameters_of_the_data_set_narrow_too() -> None:
    cells = [scored("rap", ratios([v]), parameters={"transform": t}) for v, t in ((0.2, "squash"), (0.3, "crop"))]
    assert entries(panels(*cells, dataset="imagenet(transform=crop)")["vgg16_all"])["rap"].value == 0.3


def test_only_rows_of_the_table_are_read() -> None:
    def read() -> Rows:
        raise AssertionError

    unread = Scored(held=Held(cell=stored_cell("rap", model="alexnet"), read=read))
    assert panels(scored("rap", ratios([0.2])), unread)["vgg16_all"].measured


def test_a_cell_without_a_single_readable_image_has_no_value_and_counts_them() -> None:
    cell = entries(panels(scored("rap", pd.DataFrame(), skipped={"unreadable image": 3}))["vgg16_all"])["rap"]
    assert cell.value is None
    assert cell.result is not None
    assert (cell.result.estimate.n, cell.result.dropped) == (0, {"unreadable image": 3})


def test_differences_are_taken_on_the_images_that_both_methods_have() -> None:
    rng = np.random.default_rng(0)
    ours, reference = rng.random(20), rng.random(30)
    cells = [scored("rap", ratios(reference)), scored("input_gradient", ratios(ours, start=5))]
    panel = panels(*cells)["vgg16_all"]
    found = dict(zip(entries(panel), differences(panel, RAP), strict=True))
    one = found["input_gradient"]
    assert one is not None
    assert one.difference.n == 20
    assert one.difference.value == pytest.approx(ours.mean() - reference[5:25].mean())
    assert found["rap"] is None
    assert found["gradient"] is None


def test_images_without_a_value_are_left_out_of_a_difference() -> None:
    reference = ratios([0.1, 0.2, 0.3]).assign(area_outside=[1, 0, 1])
    panel = panels(scored("rap", reference), scored("input_gradient", ratios([0.4, 0.5, 0.6])))["vgg16_all"]
    one = dict(zip(entries(panel), differences(panel, RAP), strict=True))["input_gradient"]
    assert one is not None
    assert (one.difference.n, one.difference.value) == (2, pytest.approx(0.3))


def test_signed_and_unsigned_methods_are_compared_at_their_own_thresholds() -> None:
    signed = masks(zero=[[6, 0, 0, 10], [5, 1, 1, 9]], mean=[[0, 10, 6, 0]] * 2)
    unsigned = masks(mean=[[3, 5, 3, 5], [6, 2, 0, 8]], zero=[[6, 10, 0, 0]] * 2)
    given = {"metric": "segmentation", "dataset": "voc"}
    panel = panels(scored("rap", signed, **given), scored("gradient", unsigned, **given))["voc_pix_acc"]
    one = dict(zip(entries(panel), differences(panel, RAP), strict=True))["gradient"]
    assert one is not None
    assert one.difference.value == pytest.approx(100 * (22 - 30) / 32)


def test_p_values_are_corrected_for_the_methods_of_a_column() -> None:
    rng = np.random.default_rng(1)
    base = rng.random(40)
    methods = ["input_gradient", "guided_backprop", "random", "center"]
    cells = [scored(m, ratios(base + 0.02 * k + 0.1 * rng.random(40))) for k, m in enumerate(methods)]
    panel = panels(scored("rap", ratios(base + 0.05)), *cells)["vgg16_all"]
    found = [one for one in differences(panel, RAP) if one]
    ordered = sorted(found, key=lambda one: one.difference.p_value or 0)
    corrected = np.maximum.accumulate([(4 - k) * (one.difference.p_value or 0) for k, one in enumerate(ordered)])
    assert [one.p_holm for one in ordered] == pytest.approx(np.minimum(corrected, 1))


def test_the_method_to_compare_against_must_be_in_the_table() -> None:
    with pytest.raises(UnknownName, match=r"no method 'rapp' in the table to compare against: did you mean rap\?"):
        against(TABLE, "rapp")
