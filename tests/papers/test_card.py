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
from rapbench.methods import METHODS, is_control
from rapbench.metrics import METRICS
from rapbench.models import MODELS
from rapbench.papers.card import Figure, Paper, Part, Row, Table, exhibit, exhibits, table
from rapbench.papers.comparison import against
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
TABLES = [name for name in exhibits() if isinstance(exhibit(name), Table)]
POINTING = {  # docs/pointing.csv of TorchRay: of each network all pairs, then difficult ones
    "center": [69.6, 42.4, 69.6, 42.4, 27.8, 19.5, 27.8, 19.5],
    "gradient": [76.3, 56.9, 72.3, 56.8, 37.7, 31.4, 35.0, 29.4],
    "deconvnet": [67.5, 44.2, 68.6, 44.7, 30.7, 23.0, 30.0, 21.9],
    "guided_backprop": [75.9, 53.0, 77.2, 59.4, 39.1, 31.4, 42.1, 35.3],
    "excitation_backprop": [77.1, 56.6, 84.5, 70.8, 39.8, 32.8, 49.6, 43.9],
    "contrastive_excitation_backprop": [79.9, 66.5, 90.7, 82.1, 49.7, 44.3, 58.5, 53.6],
    "rise": [86.9, 75.1, 86.4, 78.8, 50.8, 45.3, 54.7, 50.0],
    "grad_cam": [86.6, 74.0, 90.4, 82.3, 54.2, 49.0, 57.3, 52.3],
    "extremal_perturbation": [88.0, 76.1, 88.9, 78.7, 51.5, 45.9, 56.5, 51.5],
}
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


def test_the_pointing_game_holds_every_number_of_its_table_in_order() -> None:
    card = table("pointing2018/torchray")
    methods = [row.name for row in card.rows if not row.control or row.name == "center"]
    assert methods == list(POINTING)
    assert {name: [column.published[name] for column in card.columns] for name in methods} == POINTING


def test_the_area_under_insertion_is_the_mean_of_the_two_halves_that_the_notebook_prints() -> None:
    deletion, insertion, *others = (column.published for column in table("rise2018/table1").columns)
    assert deletion["rise"] == pytest.approx((0.1023703907 + 0.1072850271) / 2, abs=5e-6)
    assert insertion["rise"] == pytest.approx((0.7653968452 + 0.7784488932) / 2, abs=5e-6)
    assert not any(others)


def test_of_transformers_only_cells_that_are_quoted_are_published() -> None:
    columns = {column.name: column.published for column in table("chefer2021/table1").columns if column.published}
    assert columns == {
        "negative_predicted": {"attention_rollout": 53.1, "attention_grad_cam": 41.52, "chefer_lrp": 54.16},
        "positive_predicted": {"chefer_lrp": 17.03},
    }
    assert not any(column.published for column in table("chefer2021/table2").columns)


@pytest.mark.parametrize("name", TABLES)
def test_controls_are_in_every_table_and_none_but_the_centre_has_a_published_number(name: str) -> None:
    controls = {row.name for row in table(name).rows if row.control}
    assert controls == {row.name for row in table(name).rows if is_control(row.name)}
    assert controls >= {"random", "center", "edge"}
    published = {row for column in table(name).columns for row in column.published} & controls
    assert published == ({"center"} if name == "pointing2018/torchray" else set())


@pytest.mark.parametrize("name", TABLES)
def test_others_are_compared_with_a_method_of_the_table(name: str) -> None:
    card = table(name)
    assert against(card, card.reference).method


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
            assert parse_call(part.dataset).name in DATASETS
            assert all(
                model in MODELS or model.startswith("timm:vit_base_patch16_224.") for model in (part.model, *part.also)
            )
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


@pytest.mark.parametrize("name", [name for name in TABLES if table(name).sweep])
def test_the_sweep_adds_methods_and_metrics_on_exactly_the_images_of_the_table(name: str) -> None:
    card = table(name)
    specs, others = read_parts(card.run, {}), read_parts(card.sweep_run, {})
    assert specs.keys() == others.keys()
    for part, spec in specs.items():
        other = others[part]
        assert other.model_copy(update={"method": spec.method, "metric": spec.metric}) == spec
        more, (own, *metrics) = set(other.method) - set(spec.method), other.metric
        assert more | set(metrics)
        assert other.method == (*(spec.method if metrics else ()), *(m for m in other.method if m in more))
        assert (own,) == spec.metric
        assert {parse_call(metric).name for metric in metrics} <= {parse_call(own).name}
        assert {parse_call(method).name for method in more} <= {row.name for row in card.rows}


def test_metrics_of_a_sweep_are_computed_of_the_rows_of_their_part() -> None:
    one = SECTION["parts"][0]
    sweep = {"method": ["rap(routing=paper)"], "metrics": {"q": ["energy"]}}
    card = parsed(SECTION | {"parts": [one, {**one, "name": "q"}], "sweep": sweep}).tables["b"]
    first, second = read_parts(card.sweep_run, {}).values()
    assert (first.method, first.metric) == (("rap(routing=paper)",), ("outside_inside",))
    assert (second.method, second.metric) == (("rap", "rap(routing=paper)"), ("outside_inside", "energy"))


@pytest.mark.parametrize("name", exhibits())
def test_every_run_names_methods_and_metrics_that_exist(name: str) -> None:
    found = exhibit(name)
    for config in (found.run, found.sweep_run) if isinstance(found, Table) and found.sweep else (found.run,):
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
        ({"against": "rapp"}, "against speaks of row 'rapp': did you mean rap?"),
        ({"sweep": {"metrics": {"q": ["energy"]}}}, "the sweep speaks of part 'q': "),
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
