"""The names of what a run draws for."""

from __future__ import annotations

from cifar_ablations.ablations.purposes import PURPOSES, TITLES, varied
from cifar_ablations.ablations.seeding import Seeding


def test_every_purpose_has_a_title() -> None:
    assert set(TITLES) == set(PURPOSES)


def test_an_arm_varies_what_its_levels_say() -> None:
    assert varied({}) == varied({"seeding": "off", "dropout": "on"}) == ""
    for purpose in PURPOSES:
        assert varied({Seeding.name: Seeding(purpose).level}) == purpose
