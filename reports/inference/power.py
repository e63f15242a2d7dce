"""How large an effect must be for a plan to find it, and how many seeds that takes, with the page's correction."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from scipy import optimize, stats

from cifar_ablations.ablations.record import PlanRecord, RuleRecord
from cifar_ablations.reports.inference import contrast, decision

POWER = 0.8
MOST_SEEDS = 10_000


def typical_alpha(claims: int, seeds: int, test: str, correction: str, looks: int = 1) -> float:
    """The level at which a claim of a page is tested where half of the claims are true.

    Weights give nearly all of the error to true claims, so that half of the claims share it; Holm's own procedure,
    once it has rejected some, stands between all of them and half.
    """
    share = (claims + 1) / 2 if correction == "weighted holm" else 3 * claims / 4
    return decision.error_of_differences(test, seeds, looks) / max(1.0, share)


@lru_cache(maxsize=4096)
def standard_effect(df: float, alpha: float, test: str, power: float = POWER) -> float:
    """The true effect, in standard errors, that is found at level α with the given probability.

    From the non-central t distribution with df degrees of freedom; NaN for none, infinite where the test never finds
    anything.
    """
    if not df > 0:
        return math.nan
    bound = float(decision.TESTS[test].critical(df, alpha))
    if not math.isfinite(bound):
        return math.inf
    high = bound + 5.0
    while _found(high, df, bound) < power:
        high *= 2
    return float(optimize.brentq(lambda shift: _found(shift, df, bound) - power, 0.0, high))


def found(effect: float, df: float, alpha: float, test: str) -> float:
    """The probability that a claim whose true effect is so many standard errors is decided at level α."""
    return _found(effect, df, float(decision.TESTS[test].critical(df, alpha)))


def _found(shift: float, df: float, bound: float) -> float:
    if not math.isfinite(bound):
        return 0.0
    above, below = float(stats.nct.sf(bound, df, shift)), float(stats.nct.cdf(-bound, df, shift))
    # Far from zero the lower tail is nothing, and scipy's series for it gives NaN; so does the upper one for certain.
    return (1.0 if math.isnan(above) else above) + (0.0 if math.isnan(below) else below)


def seeds_needed(
    effect: float, error: float, df: float, seeds: int, claims: int, test: str, correction: str, looks: int = 1
) -> int | None:
    """The fewest seeds that find an effect with 80 % probability; None where MOST_SEEDS do not, or it is not above 0.

    effect, error: of the same unit; error, df: the standard error, and its degrees of freedom, that `seeds` seeds gave.
    """
    if not (effect > 0 and error > 0 and df > 0):
        return None

    def enough(n: int) -> bool:
        freedom = round(df * n / seeds, 1)
        if not freedom > 0:
            return False
        # An effect is as large as `standard_effect`, or larger, where it is found with that probability, or a higher
        # one: to ask this takes a tenth of the time of asking for that.
        alpha = typical_alpha(claims, n, test, correction, looks)
        return found(effect / (error * math.sqrt(seeds / n)), freedom, alpha, test) >= POWER

    if not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # `low` is too few, `high` is enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class Design:
    """A claim of a page of so many claims, where all arms vary alike and runs of equal seeds do not correlate.

    squares, fourths: the sums of the weights of its arms, squared and to the fourth power; both 2 for two arms.
    """

    rule: RuleRecord
    claims: int
    squares: float = 2.0
    fourths: float = 2.0

    def chance(self, effect: float, seeds: int) -> float:
        """The probability that a true effect is found where half of the page's claims are true.

        effect: in standard deviations of one arm's runs. For a plan with looks: that of a look at so many seeds.
        """
        alpha = typical_alpha(self.claims, seeds, self.rule.test, self.rule.correction, self._looks)
        return found(effect / self._error(seeds), self._df(seeds), alpha, self.rule.test)

    def equivalent_below(self, seeds: int) -> float:
        """The standard deviation of one arm's runs from which on no estimate at all can be called equivalent.

        In the unit of the margin. Of the two one-sided tests, each at the level of `decision.EQUIVALENT` over the
        number of claims, with an estimate of zero.
        """
        test = decision.TESTS[self.rule.test]
        level = decision.EQUIVALENT / self.claims
        two_sided = 2 * level / self._looks if test.looks_share else level
        return self.rule.margin / (float(test.critical(self._df(seeds), two_sided)) * self._error(seeds))

    @property
    def _looks(self) -> int:
        return max(1, len(self.rule.looks))

    def _error(self, seeds: int) -> float:
        """The standard error, in standard deviations of one arm's runs."""
        return math.sqrt(self.squares / seeds)

    def _df(self, seeds: int) -> float:
        """Of arms with a pseudo-seed each, which makes up for what its mean takes; pairs have none."""
        if decision.TESTS[self.rule.test].compare is decision.by_pairs:
            return seeds - 1
        return seeds * self.squares**2 / self.fourths


def designs(plan: PlanRecord) -> list[tuple[Design, str, int]]:
    """The kinds of comparison that a plan's claims are, in words, and how many are such; the most frequent first."""
    kinds: Counter[tuple[float, float, str]] = Counter()
    for claim in plan.claims:
        weights = contrast.weights(claim).values()
        words = f"means over {len(weights)} arms" if claim.over else "two differences" if claim.beyond else "two arms"
        kinds[round(sum(w**2 for w in weights), 9), round(sum(w**4 for w in weights), 9), words] += 1
    return [
        (Design(plan.rule, len(plan.claims), squares, fourths), words, n)
        for (squares, fourths, words), n in kinds.most_common()
    ]
