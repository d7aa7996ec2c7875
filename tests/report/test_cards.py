"""Paper cards: the printed numbers, and that every cell can be computed by the configs beside them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadConfig, UnknownName
from rapbench.datasets import DATASETS
from rapbench.methods import METHODS
from rapbench.metrics import METRICS
from rapbench.models import MODELS
from rapbench.report.cards import Column, Row, Table, card, parsed
from rapbench.run.plan import Named
from rapbench.run.spec import RunSpec, read_parts

ROOT = Path(__file__).parents[2]
METHODS_OF_TABLE_1 = [
    *("rap", "lrp_a1b0", "lrp_a2b1", "gradient", "input_gradient", "integrated_gradients", "pattern_attribution"),
    "guided_backprop",
]
TABLE_1: dict[str, list[float | None]] = {  # the paper's lines, read from left to right
    "vgg16_all": [0.252, None, 0.616, None, 0.989, 1.230, None, 1.069],
    "vgg16_pos": [0.341, 0.474, 0.524, 0.619, 0.691, 0.827, 0.415, 0.427],
    "resnet50_all": [0.164, None, 0.302, None, 0.996, 1.195, None, 1.035],
    "resnet50_pos": [0.166, 0.429, 0.299, 0.597, 0.689, 0.698, None, 0.296],
    "imagenet_pix_acc": [79.23, 75.40, 72.95, 70.01, 66.38, 66.52, 76.84, 71.98],
    "imagenet_miou": [62.23, 55.78, 50.86, 49.30, 44.01, 45.90, 58.05, 49.87],
    "voc_pix_acc": [73.91, 70.86, 69.43, 68.14, 50.01, 52.38, None, 66.92],
    "voc_miou": [55.60, 49.82, 46.85, 46.07, 31.69, 34.39, None, 43.63],
}
TABLES = ["rap2020/table1", "rap2020/table2"]
SECTION: dict[str, Any] = {
    "title": "A table",
    "source": "Table 1",
    "config": "a.toml",
    "sweep_config": "b.toml",
    "weights": ["W"],
    "rows": [{"name": "rap", "title": "RAP", "method": "rap"}],
    "columns": [
        {
            "name": "all",
            "title": "ALL",
            "published_for": "VGG",
            "dataset": "scenes",
            "model": "vgg16",
            "metric": "outside_inside",
            "variant": "all",
            "published": {"rap": 0.2},
        }
    ],
}


def test_table_1_holds_every_number_the_paper_prints_and_no_other() -> None:
    columns = {column.name: column.published for column in card("rap2020/table1").columns}
    assert {name: [row.get(method) for method in METHODS_OF_TABLE_1] for name, row in columns.items()} == TABLE_1
    assert sum(map(len, columns.values())) == sum(n is not None for line in TABLE_1.values() for n in line)


def test_table_2_holds_the_quoted_numbers_and_ours() -> None:
    miou, foreground = card("rap2020/table2").columns
    assert list(miou.published.values()) == [57.30, 58.69, 62.12, 64.22, 62.23]
    assert not foreground.published
    assert [row.title for row in card("rap2020/table2").rows if row.method is None] == [
        *("Guillaumin et al. 2014", "DeepMask (Pinheiro et al. 2015)", "DeepSaliency (Li et al. 2016)"),
        "Xiong et al. 2018",
    ]


def test_rows_stand_in_the_order_of_the_paper_and_controls_follow() -> None:
    rows = card("rap2020/table1").rows
    assert [row.name for row in rows] == [*METHODS_OF_TABLE_1, "random", "center", "edge", "all_background"]
    assert [row.name for row in rows if row.control] == ["random", "center", "edge", "all_background"]


@pytest.mark.parametrize("name", TABLES)
def test_controls_are_in_every_table_without_a_published_number(name: str) -> None:
    controls = {row.name for row in card(name).rows if row.control}
    assert controls == {"random", "center", "edge", "all_background"}
    assert not any(controls & set(column.published) for column in card(name).columns)


def cells() -> list[tuple[Table, Row, Column]]:
    return [(t, row, column) for t in map(card, TABLES) for row in t.rows for column in t.columns if row.method]


def test_every_call_is_the_label_that_the_store_gives_it() -> None:
    for table, row, column in cells():
        call = parse_call(table.call(row, column) or "")
        if call.name in METHODS and "*" not in call.parameters.values():
            label = Named(call.name, METHODS.build(call)).label
            assert parse_call(label) == call


def test_every_column_names_what_exists() -> None:
    for table in map(card, TABLES):
        for column in table.columns:
            assert column.dataset in DATASETS
            assert {column.model, *column.also} <= set(MODELS)
            variants = METRICS.build(parse_call(column.metric)).variants(signed=True)
            assert column.variant in variants
            assert any(fnmatchcase(column.variant, pattern) for pattern in column.readings)
            assert all(any(fnmatchcase(variant, pattern) for variant in variants) for pattern in column.readings)


def computing(table: Table, column: Column, config: str) -> list[RunSpec]:
    parts = read_parts(ROOT / config, {}).values()
    return [s for s in parts if (s.dataset, s.model, *s.metric) == (column.dataset, column.model, column.metric)]


def test_one_part_of_its_config_computes_every_cell() -> None:
    for table, row, column in cells():
        (spec,) = computing(table, column, table.config)
        if row.name != "pattern_attribution":  # needs patterns that are fitted first
            assert parse_call(table.call(row, column) or "") in [parse_call(method) for method in spec.method]


def test_the_sweep_adds_methods_on_exactly_the_images_of_the_table() -> None:
    for table in map(card, TABLES):
        for column in table.columns:
            (spec,), (other,) = (computing(table, column, config) for config in (table.config, table.sweep_config))
            assert other.model_copy(update={"method": spec.method}) == spec
            assert not set(map(str, map(parse_call, spec.method))) & set(map(str, map(parse_call, other.method)))
            assert {parse_call(method).name for method in other.method} <= {row.name for row in table.rows} | {
                *METHODS_OF_TABLE_1
            }


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("rap2020_*.toml")), ids=lambda path: path.stem)
def test_every_config_names_methods_and_metrics_that_exist(config: Path) -> None:
    for spec in read_parts(config, {}).values():
        for catalogue, calls in ((METHODS, spec.method), (METRICS, spec.metric)):
            for call in calls:
                catalogue.build(parse_call(call))


def test_a_wrong_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no table named 'rap2020/tabel1': did you mean rap2020/table1\?"):
        card("rap2020/tabel1")


def test_sections_of_figures_are_no_tables() -> None:
    with pytest.raises(UnknownName, match="rap2020/figure7"):
        card("rap2020/figure7")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": [{**SECTION["columns"][0], "published": {"rapp": 1}}]}, "row 'rapp': did you mean rap?"),
        (
            {"columns": [{**SECTION["columns"][0], "methods": {"lrp": "lrp"}}]},
            "card a/b: column 'all' speaks of row 'lrp': ",
        ),
        ({"columns": SECTION["columns"] * 2}, "two columns named 'all'"),
        ({"rows": SECTION["rows"] * 2}, "two rows named 'rap'"),
        ({"rows": [{"name": "rap", "title": "RAP", "method": "gradient"}]}, "row 'rap' runs another method, gradient"),
        ({"colums": []}, "card a/b: colums: "),
        ({"columns": [{**SECTION["columns"][0], "published": {"rap": "much"}}]}, "card a/b: columns.0.published.rap: "),
        ({"title": None}, "card a/b: title: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malformed_card_says_where(change: dict[str, Any], message: str) -> None:
    parsed("a/b", SECTION)
    with pytest.raises(BadConfig) as raised:
        parsed("a/b", SECTION | change)
    assert message in str(raised.value)
