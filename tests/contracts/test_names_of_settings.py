"""What a technique is called says what it is set to, at every level and between them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.technique import Technique

TECHNIQUES = list(catalog.techniques().values())
EVERY = pytest.mark.parametrize("cls", TECHNIQUES, ids=str)
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]\d+)?")


def _value(cls: type[Technique], name: str) -> st.SearchStrategy[Any]:
    about, default = cls.knobs()[name], getattr(cls.at("off"), name)
    if about.choices is not None:
        return st.sampled_from(about.choices)
    levels = [getattr(cls.at(level), name) for level in cls.levels]
    if isinstance(default, int):
        between: st.SearchStrategy[Any] = st.integers(about.low, about.high)  # type: ignore[arg-type]
    else:
        between = st.floats(about.low, about.high)
        # A search's best lies beside a level more often than chance would have it.
        beside = st.sampled_from(levels).map(lambda value: value * (1 + 1e-5)).filter(lambda value: value <= about.high)
        between |= beside
    return st.sampled_from(levels) | between


def _settings(cls: type[Technique]) -> st.SearchStrategy[Technique]:
    return st.builds(cls, **{name: _value(cls, name) for name in cls.knobs()})


def _choices(technique: Technique) -> dict[str, str]:
    return {name: getattr(technique, name) for name, about in technique.knobs().items() if about.choices is not None}


@EVERY
def test_a_level_with_a_title_is_called_by_it(cls: type[Technique]) -> None:
    for level, title in cls.titles.items():
        assert cls.at(level).setting_title == cls.at(level).kind_title == title
    if "on" in cls.levels:
        assert cls.at("on").setting_title == cls.titles.get("on", cls.title)
    if "off" not in cls.titles:
        assert cls.at("off").setting_title == f"no {cls.title.removeprefix('the ')}"


@pytest.mark.exhaustive
@EVERY
@given(data=st.data())
def test_the_name_has_what_tells_the_setting_from_its_kind(cls: type[Technique], data: st.DataObject) -> None:
    setting = data.draw(_settings(cls))
    name, kind = setting.setting_title, setting.kind_title
    assert name == kind or (name.startswith(f"{kind} (") and name.endswith(")"))
    told = name.removeprefix(kind)
    named_alike = [cls.at(level) for level in cls.levels if cls.at(level).setting_title == kind]
    reference = named_alike[0] if named_alike else cls.at("off")
    for knob in cls.knobs():
        value = getattr(setting, knob)
        if value == getattr(reference, knob):
            assert not re.search(rf"\b{knob.replace('_', ' ')}\b", told)
            continue
        assert knob.replace("_", " ") in told
        if isinstance(value, str):
            assert value in told
        else:
            assert any(float(number) == pytest.approx(value, rel=0.005, abs=1e-300) for number in NUMBER.findall(told))


@pytest.mark.exhaustive
@EVERY
@given(data=st.data())
def test_the_name_is_no_other_levels(cls: type[Technique], data: st.DataObject) -> None:
    setting = data.draw(_settings(cls))
    name = setting.setting_title
    for level in cls.levels:
        other = cls.at(level)
        if other == setting:
            continue
        assert name != other.setting_title
        if level in (*cls.titles, "on") and _choices(other) != _choices(setting):
            assert other.kind_title not in name.replace(setting.kind_title, "")
            assert other.kind_title != setting.kind_title


@pytest.mark.exhaustive
@EVERY
@given(data=st.data())
def test_two_settings_never_share_a_name(cls: type[Technique], data: st.DataObject) -> None:
    one, other = data.draw(_settings(cls)), data.draw(_settings(cls))
    assume(_to_three_digits(one) != _to_three_digits(other))
    assert one.setting_title != other.setting_title


def _to_three_digits(technique: Technique) -> list[object]:
    values = [getattr(technique, name) for name in technique.knobs()]
    return [f"{value:.3g}" if isinstance(value, float) else value for value in values]


@pytest.mark.parametrize(
    ("setting", "kind", "whole"),
    [
        ("optimizer=on", "Adam", "Adam"),
        ("optimizer=rmsprop", "RMSProp", "RMSProp"),
        ("optimizer.kind=rmsprop", "RMSProp", "RMSProp (rate 0.003, second 0.999)"),
        ("optimizer.rate=0.00213456", "Adam", "Adam (rate 0.00213)"),
        ("optimizer.rate=0.0030001", "Adam", "Adam (rate 0.0030001)"),
        ("optimizer.momentum=0.99989", "Adam", "Adam (momentum 0.99989)"),
        ("optimizer=off", "plain SGD", "plain SGD"),
        ("initialisation=orthogonal", "orthogonal initialisation", "orthogonal initialisation"),
        ("schedule=on", "the learning-rate schedule", "the learning-rate schedule"),
        ("schedule.shape=one_cycle", "the one-cycle schedule", "the one-cycle schedule (warmup 0.2)"),
        ("dropout.p=0.37", "dropout", "dropout (p = 0.37)"),
        ("dropout=off", "no dropout", "no dropout"),
        ("weight_decay.strength=0.00001", "weight decay", "weight decay (strength 1e-05)"),
        ("weight_decay=decoupled", "decoupled weight decay", "decoupled weight decay"),
        ("augmentation.padding=5", "augmentation", "augmentation (padding 5)"),
        ("gradient_clipping=tight", "gradient clipping", "gradient clipping (max norm 0.1)"),
        ("capacity.factor=3", "another capacity", "another capacity (factor 3)"),
        ("activation.slope=0.2", "ReLU", "ReLU (slope 0.2)"),
    ],
)
def test_names(setting: str, kind: str, whole: str) -> None:
    recipe = catalog.notebook_recipe().set(setting)
    (technique,) = (t for t in recipe.techniques if t.name == setting.partition("=")[0].partition(".")[0])
    assert (technique.kind_title, technique.setting_title) == (kind, whole)
