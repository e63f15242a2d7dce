"""What a pool of workers tells of the fleets that it trains."""

from __future__ import annotations

from dataclasses import dataclass

from cifar_ablations.study.training.engine import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member


@dataclass(frozen=True)
class Started:
    """A worker has begun a fleet."""

    members: tuple[Member, ...]


@dataclass(frozen=True)
class Done:
    """A fleet is through: every member's outcome has been told."""

    members: tuple[Member, ...]


@dataclass(frozen=True)
class Failed:
    """A fleet ended in an error; those of its members that had not ended before have no result."""

    members: tuple[Member, ...]
    why: str
    lost: bool = False
    """Whether its worker was lost, which says nothing about the members: they may well succeed another time."""


@dataclass(frozen=True)
class Stalled:
    """A worker stood still and was ended, or its process died; these members, without an outcome so far, go on."""

    members: tuple[Member, ...]
    why: str


@dataclass(frozen=True)
class Elsewhere:
    """Members that are not trained here: another coordinator has them in hand, or has trained them."""

    members: tuple[Member, ...]


Event = Started | Epoch | Outcome | Done | Failed | Stalled | Elsewhere
