"""What a claim says, whatever it is called: two claims with one identity are one claim, asked twice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from cifar_ablations.ablations.record import ClaimRecord, PlanRecord, RuleRecord

DIGITS = 12
"""After the point, to which weights are compared: thirds and sixths are sums of floats."""


@dataclass(frozen=True)
class Identity:
    """All that a claim's verdict depends on but the runs: not its wording, nor the names of plan and arms.

    The claim says that the weighted sum of the metric over the arms is above zero, by the rule, on the data.
    """

    data: str
    """The digest of the images and labels."""
    metric: str
    weights: tuple[tuple[str, int, float], ...]
    """Recipe digest, seed offset and weight of each arm, sorted. The claim's sign is multiplied in, so that 'A exceeds
    B' and 'B falls short of A' are one claim. Arms of one recipe are one; those whose weights cancel are left out."""
    allowed: bool
    """Whether a loss within the rule's margin is still what the claim says."""
    rule: RuleRecord

    @property
    def arms(self) -> frozenset[tuple[str, int]]:
        """Recipe digest and seed offset of each arm."""
        return frozenset((digest, offset) for digest, offset, _ in self.weights)

    @property
    def statement(self) -> Hashable:
        """The claim without the rule and the data that it is judged by."""
        return self.metric, self.weights, self.allowed

    @property
    def comparison(self) -> Hashable:
        """What is measured, whatever is claimed of it: claims of either sign, by any rule, share it."""
        opposite = tuple((digest, offset, -weight) for digest, offset, weight in self.weights)
        return self.data, self.metric, max(self.weights, opposite)


def identity_of(claim: ClaimRecord, plan: PlanRecord) -> Identity:
    """The identity of one of a plan's claims. An arm that the plan lacks counts by its name."""
    trained = {arm.name: (arm.digest, arm.seed_offset) for arm in plan.arms}
    total: dict[tuple[str, int], float] = {}
    for name, weight in weights(claim).items():
        arm = trained.get(name, (name, 0))
        total[arm] = total.get(arm, 0.0) + claim.sign * weight
    rounded = ((*arm, round(weight, DIGITS)) for arm, weight in total.items())
    weighed = tuple(sorted(one for one in rounded if one[2]))
    return Identity(plan.data.digest, claim.metric, weighed, claim.allowed, plan.rule)


def weights(claim: ClaimRecord) -> Mapping[str, float]:
    """The arms that a claim compares, by name, with their weights: +1 and -1 for two arms."""
    if claim.over:
        return dict(claim.over)
    pairs = [(claim.treatment, 1.0), (claim.control, -1.0)]
    if claim.beyond:
        also, without = claim.beyond
        pairs += [(also, -1.0), (without, 1.0)]
    total: dict[str, float] = {}
    for name, weight in pairs:
        total[name] = total.get(name, 0.0) + weight
    return total
