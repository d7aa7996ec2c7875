"""Paper cards: the printed numbers, and that every cell can be computed by the configs beside them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadConfig, UnknownName
from rapbench.core.named import Named
from rapbench.datasets import DATASETS
from rapbench.methods import METHODS
from rapbench.metrics import METRICS
from rapbench.models import MODELS
from rapbench.papers.card import Figure, Paper, Part, Row, Table, exhibit, exhibits, table
from rapbench.run.spec import read_parts

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
    "weights": ["W"],
    "rows": [{"name": "rap", "title": "RAP", "method": "rap"}],
    "parts": [{"name": "p", "published_for": "VGG", "dataset": "scenes", "model": "vgg16", "metric": "outside_inside"}],
    "columns": [{"name": "all", "title": "ALL", "part": "p", "variant": "all", "published": {"rap": 0.2}}],
}
CONFIGS = ROOT / "configs"


def parsed(section: dict[str, Any]) -> Paper:
    return Paper.parsed("a", {"title": "A paper", "source": "A 2020", "b": section})


def test_table_1_holds_every_number_the_paper_prints_and_no_other() -> None:
    columns = {column.name: column.published for column in table("rap2020/table1").columns}
    assert {name: [row.get(method) for method in METHODS_OF_TABLE_1] for name, row in columns.items()} == TABLE_1
    assert sum(map(len, columns.values())) == sum(n is not None for line in TABLE_1.values() for n in line)


def test_table_2_holds_the_quoted_numbers_and_ours() -> None:
    miou, foreground = table("rap2020/table2").columns
    assert list(miou.published.values()) == [57.30, 58.69, 62.12, 64.22, 62.23]
    assert not foreground.published
    assert [row.title for row in table("rap2020/table2").rows if row.method is None] == [
        *("Guillaumin et al. 2014", "DeepMask (Pinheiro et al. 2015)", "DeepSaliency (Li et al. 2016)"),
        "Xiong et al. 2018",
    ]


def test_rows_stand_in_the_order_of_the_paper_and_controls_follow() -> None:
    rows = table("rap2020/table1").rows
    assert [row.name for row in rows] == [*METHODS_OF_TABLE_1, "random", "center", "edge", "all_background"]
    assert [row.name for row in rows if row.control] == ["random", "center", "edge", "all_background"]


@pytest.mark.parametrize("name", TABLES)
def test_controls_are_in_every_table_without_a_published_number(name: str) -> None:
    controls = {row.name for row in table(name).rows if row.control}
    assert controls == {"random", "center", "edge", "all_background"}
    assert not any(controls & set(column.published) for column in table(name).columns)


def cells() -> list[tuple[Table, Row, Part]]:
    return [(t, row, part) for t in map(table, TABLES) for row in t.rows for part in t.parts if row.method]


def test_every_call_is_the_label_that_the_store_gives_it() -> None:
    for card, row, part in cells():
        call = parse_call(card.call(row, part) or "")
        if call.name in METHODS and "*" not in call.parameters.values():
            label = Named(call.name, METHODS.build(call)).label
            assert parse_call(label) == call


def test_every_column_names_what_exists() -> None:
    for card in map(table, TABLES):
        for column in card.columns:
            part = column.part
            assert part.dataset in DATASETS
            assert {part.model, *part.also} <= set(MODELS)
            variants = METRICS.build(parse_call(part.metric)).variants(signed=True)
            assert column.variant in variants
            assert any(fnmatchcase(column.variant, pattern) for pattern in column.readings)
            assert all(any(fnmatchcase(variant, pattern) for variant in variants) for pattern in column.readings)


def test_one_part_of_its_run_computes_every_cell() -> None:
    for card, row, part in cells():
        spec = read_parts(card.run, {})[part.name]
        assert (spec.dataset, spec.model, *spec.metric) == (part.dataset, part.model, part.metric)
        if row.run:
            assert parse_call(card.call(row, part) or "") in [parse_call(method) for method in spec.method]


def test_the_sweep_adds_methods_on_exactly_the_images_of_the_table() -> None:
    for card in map(table, TABLES):
        specs, others = read_parts(card.run, {}), read_parts(card.sweep_run, {})
        assert specs.keys() == others.keys()
        for name, spec in specs.items():
            assert others[name].model_copy(update={"method": spec.method}) == spec
            assert not set(map(str, map(parse_call, spec.method))) & set(map(str, map(parse_call, others[name].method)))
            assert {parse_call(method).name for method in others[name].method} <= {row.name for row in card.rows}


@pytest.mark.parametrize("name", exhibits())
def test_every_run_names_methods_and_metrics_that_exist(name: str) -> None:
    found = exhibit(name)
    for config in (found.run, found.sweep_run) if isinstance(found, Table) else (found.run,):
        for spec in read_parts(config, {}).values():
            for catalogue, calls in ((METHODS, spec.method), (METRICS, spec.metric)):
                for call in calls:
                    catalogue.build(parse_call(call))


@pytest.mark.parametrize("name", exhibits())
def test_the_readable_example_among_the_configs_is_what_the_card_runs(name: str) -> None:
    config = CONFIGS / f"{name.replace('/', '_')}.toml"
    specs, found = read_parts(exhibit(name).run, {}), read_parts(config, {})
    assert list(found.values()) == list(specs.values())
    assert f"rapbench run {name}" in config.read_text()


def test_the_example_of_the_sweep_is_what_the_card_runs() -> None:
    found = read_parts(CONFIGS / "rap2020_table1_sweep.toml", {})
    assert found == read_parts(table("rap2020/table1").sweep_run, {})


def test_a_wrong_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no table or figure named 'rap2020/tabel1': did you mean rap2020/table1\?"):
        exhibit("rap2020/tabel1")
    with pytest.raises(UnknownName, match=r"did you mean rap2020/table1\?"):
        exhibit("rap202/table1")


def test_figures_are_no_tables() -> None:
    with pytest.raises(BadConfig, match="rap2020/figure7 is a figure"):
        table("rap2020/figure7")


def test_a_figure_takes_no_option_that_it_has_not() -> None:
    found = exhibit("pattern2017/figure4a")
    assert isinstance(found, Figure)
    with pytest.raises(BadConfig, match="Figure 4a has no option 'order'"):
        found.kind(order="morf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": [{**SECTION["columns"][0], "published": {"rapp": 1}}]}, "row 'rapp': did you mean rap?"),
        (
            {"parts": [{**SECTION["parts"][0], "methods": {"lrp": "lrp"}}]},
            "card a/b: part 'p' speaks of row 'lrp': ",
        ),
        ({"columns": SECTION["columns"] * 2}, "two columns named 'all'"),
        ({"rows": SECTION["rows"] * 2}, "two rows named 'rap'"),
        ({"rows": [{"name": "rap", "title": "RAP", "method": "gradient"}]}, "row 'rap' runs another method, gradient"),
        ({"columns": [{**SECTION["columns"][0], "part": "q"}]}, "column 'all' is of part 'q': "),
        ({"colums": []}, "card a/b: colums: "),
        ({"columns": [{**SECTION["columns"][0], "published": {"rap": "much"}}]}, "card a/b: columns.0.published.rap: "),
        ({"title": None}, "card a/b: title: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malformed_card_says_where(change: dict[str, Any], message: str) -> None:
    parsed(SECTION)
    with pytest.raises(BadConfig) as raised:
        parsed(SECTION | change)
    assert message in str(raised.value)
