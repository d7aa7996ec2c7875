"""Names, calls and parameters as a user types them."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

from rapbench.backends import BACKENDS
from rapbench.core.catalogue import Call, Catalogue, Entry, parse_call, split_calls
from rapbench.core.errors import BadConfig, UnknownName
from rapbench.datasets import DATASETS
from rapbench.methods import METHODS
from rapbench.metrics import METRICS
from rapbench.models import MODELS
from rapbench.workers import SCHEDULERS


@dataclass(frozen=True, kw_only=True)
class Sieve:
    """Something with parameters."""

    steps: int = 3
    mode: Literal["fast", "slow"] = "fast"
    share: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be at least 1")


CATALOGUE = Catalogue("sieve", {"sieve": Entry(f"{__name__}:Sieve", "a sieve"), "riddle": Entry("nowhere:Riddle", "")})


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[Sieve.__module__])


def test_calls_are_joined_by_commas_or_repeated_and_keep_commas_in_brackets() -> None:
    calls = split_calls(["rap, lrp_a2b1(bias=signed, batch_norm=fold)", "mylab.methods:Foo(k=1)"])
    assert [str(call) for call in calls] == ["rap", "lrp_a2b1(bias=signed, batch_norm=fold)", "mylab.methods:Foo(k=1)"]


def test_every_call_can_be_read_from_its_own_text() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        values = ("".join(draw.choices("ab1.,()'\"\\= /é\n", k=draw.randrange(8))) for _ in range(draw.randrange(4)))
        calls = [Call("mylab.methods:Foo", dict(zip("abc", values, strict=False))), Call("rap", {})]
        assert parse_call(str(calls[0])) == calls[0]
        assert split_calls([", ".join(map(str, calls))]) == calls


def test_plain_values_are_written_without_quotes() -> None:
    for text in ("rap(a=0.5, b=-2)", "deeplift(reference=a/b-0.npy)", "digit_conversion(pairs=8-3 8-6)"):
        assert str(parse_call(text)) == text
    assert str(parse_call('rap(a="it\'s, 1 (of 2)")')) == r"rap(a='it\'s, 1 (of 2)')"


@pytest.mark.parametrize(
    "text",
    [
        *("rap(", "rap(steps)", "rap(=3)", "rap(a=1, a=2)", "two words", "a)b(", "rap(a=)", "rap(a='b)", "rap(a='b'c)"),
        "rap(" + "a='1(,=" * 300,
    ],
)
def test_a_call_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(BadConfig, match="cannot read"):
        parse_call(text)


def test_parameters_are_converted_to_the_types_of_the_fields() -> None:
    assert CATALOGUE.build(parse_call("sieve(steps=7, mode='slow', share=0.5)")) == Sieve(
        steps=7, mode="slow", share=0.5
    )
    assert CATALOGUE.build(Call("sieve", {"share": "none"})) == Sieve()


def test_an_unknown_name_or_parameter_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no sieve named 'seive': did you mean sieve"):
        CATALOGUE.build(Call("seive", {}))
    with pytest.raises(UnknownName, match="did you mean sieve"):
        CATALOGUE.build(Call("SIEVE", {}))
    with pytest.raises(UnknownName, match="known: sieve, riddle"):
        CATALOGUE.build(Call("zzz", {}))
    with pytest.raises(BadConfig, match="no parameter 'step': did you mean steps"):
        CATALOGUE.build(Call("sieve", {"step": "3"}))


@pytest.mark.parametrize(("key", "value"), [("steps", "many"), ("mode", "medium"), ("steps", "0"), ("steps", "2.5")])
def test_a_value_of_the_wrong_type_or_range_is_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(BadConfig, match=f"{key}"):
        CATALOGUE.build(Call("sieve", {key: value}))


def test_code_from_outside_is_named_by_module_and_class() -> None:
    assert CATALOGUE.load("collections:OrderedDict").__name__ == "OrderedDict"
    with pytest.raises(UnknownName, match="cannot load sieve 'nowhere:Thing'"):
        CATALOGUE.load("nowhere:Thing")
    with pytest.raises(BadConfig, match="must be a dataclass"):
        CATALOGUE.build(Call("collections:OrderedDict", {}))


@pytest.mark.parametrize("catalogue", [METHODS, METRICS, DATASETS, MODELS, BACKENDS, SCHEDULERS], ids=lambda c: c.kind)
def test_every_name_leads_somewhere_and_says_what_it_is(catalogue: Catalogue) -> None:
    for name, entry in catalogue.items():
        assert catalogue.load(name) is not None
        assert entry.summary


def test_listing_names_imports_no_torch() -> None:
    code = (
        "import sys, rapbench.cli.app, rapbench.cli.list as c\n"
        "for kind in ('methods', 'metrics', 'datasets', 'models', 'papers'): c.list_names(kind)\n"
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
