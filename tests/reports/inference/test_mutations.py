"""Slips that would change a verdict must make a test fail: each is made in a copy, on which the tests are run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTS = Path("tests", "reports", "inference")
FILES = (
    "statistics",
    "sequential",
    "decision",
    "verdict",
    "registration",
    "factorial",
    "contrast",
    "divergence",
    "simulation",
    "power",
)

MUTATIONS = {
    "ddof of the mean's interval": ("statistics", "x.std(ddof=1)", "x.std(ddof=0)", "statistics"),
    "new images by another ddof": ("statistics", ".var(ddof=1))\n    added", ".var(ddof=0))\n    added", "statistics"),
    "unpaired": ("statistics", "stats.ttest_rel(a, b)", "stats.ttest_ind(a, b)", "statistics"),
    "normal quantile": (
        "statistics",
        "stats.t.ppf((1 + confidence) / 2, n - 1)",
        "stats.norm.ppf(0.975)",
        "statistics",
    ),
    "pairs by position": (
        "statistics",
        "(treatment - control)",
        "pd.Series(treatment.to_numpy()[:3] - control.to_numpy()[:3])",
        "statistics",
    ),
    "Holm not stepping down": ("statistics", "np.arange(len(p), 0, -1)", "len(p)", "statistics"),
    "margin ignored by the e-process": ("sequential", "zero_p(x, margin)", "zero_p(x, 0.0)", "sequential"),
    "equivalence of one side": ("sequential", "return max(below, above)", "return min(below, above)", "sequential"),
    "evidence of fewer seeds": ("sequential", "n / 2 * log_ratio", "(n - 1) / 2 * log_ratio", "sequential"),
    "e-process with the prior inverted": (
        "sequential",
        "math.sqrt((n + c2) / c2)",
        "math.sqrt(n + 1 / c2)",
        "sequential",
    ),
    "signs of the weights swapped": (
        "identity",
        "(claim.treatment, 1.0), (claim.control, -1.0)",
        "(claim.treatment, -1.0), (claim.control, 1.0)",
        "registration",
    ),
    "level not shared out over the looks": ("verdict", "max(1, len(rule.looks))", "1", "registration"),
    "looks that wait for nobody": ("verdict", "if all((arm.name, seed)", "if any((arm.name, seed)", "registration"),
    "never late": ("registration", "[seen > 0 for", "[False for", "registration"),
    "late but not exploratory": (
        "registration",
        'exploratory=verdicts["exploratory"] | late',
        'exploratory=verdicts["exploratory"]',
        "registration",
    ),
    "late by seeds overlooked": (
        "registration",
        "claim in one.claims and one.seeds == seeds",
        "claim in one.claims",
        "registration",
    ),
    "late by margin or sign overlooked": (
        "registration",
        "claim in one.claims and one.seeds == seeds",
        "one.seeds == seeds",
        "registration",
    ),
    "late without results": ("registration", "one.at <= first]", "False]", "registration"),
    "what was given up counts as fixed": (
        "registration",
        "in_time and _registers(in_time[-1], mine, plan.seeds)",
        "any(_registers(one, mine, plan.seeds) for one in in_time)",
        "registration",
    ),
    "runs of other arms seen": ("registration", '[ended["arm"].isin(arms)]', "", "registration"),
    "Shapley weights those of Banzhaf": (
        "factorial",
        "math.factorial(size) * math.factorial(k - size - 1) / math.factorial(k)",
        "1 / 2 ** (k - 1)",
        "factorial",
    ),
    "interaction of half its size": ("factorial", "return 4 * signs", "return 2 * signs", "factorial"),
    "ties as improvements": ("statistics", "(above + ties / 2)", "(above + ties)", "statistics"),
    "Friedman's χ² for F": ("statistics", "stats.f.sf(f, k", "stats.f.sf(chi2, k", "statistics"),
    "one-sided limits of a spread": (
        "statistics",
        "chi2.ppf([(1 - confidence) / 2",
        "chi2.ppf([(1 - confidence)",
        "statistics",
    ),
    "new images count twice": (
        "statistics",
        "max(0.0, of_image - residual",
        "max(0.0, 2 * of_image - residual",
        "statistics",
    ),
    "correction left out": ("decision", "weighted_holm(p, shares) *", "p *", "decision"),
    "weighted Holm not stepping down": (
        "decision",
        "np.cumsum(sorted_weights[..., ::-1], axis=-1)[..., ::-1]",
        "sorted_weights.sum(axis=-1, keepdims=True)",
        "decision",
    ),
    "pseudo-seed left out": ("decision", "(usual + (k - 1) * of_arm) / np.maximum(k, 1)", "of_arm", "decision"),
    "pseudo-seed that lowers": (
        "decision",
        "np.maximum(of_arm, (usual",
        "np.minimum(variance, (typical",
        "decision",
    ),
    "typical spread as biased as a median": (
        "decision",
        "median / _median_of_chi2(max(seeds - 1, 1))",
        "median",
        "decision",
    ),
    "interval of raised spreads": ("decision", "spread_of(variance, k - 1)", "spread_of(raised, k)", "decision"),
    "degrees of freedom of the test": (
        "decision",
        "spread_of(raised(variance), k)",
        "spread_of(raised(variance), k - 1)",
        "decision",
    ),
    "floor of the images left out": ("decision", "np.maximum(measured, sample.floor)", "measured", "decision"),
    "shares without the effect": ("decision", "(one.count * shifted**2 + one.spread)", "one.spread", "decision"),
    "shares in units of their own": ("decision", "+ one.spread) / one.unit", "+ one.spread)", "decision"),
    "no unit where most do not vary": ("decision", "np.where(typical == 0, mean, typical)", "typical", "decision"),
    "divergence ignored": ("decision", "np.where(forbidden, 1.0, allowed if sample.better else p)", "p", "decision"),
    "divergence for the arm that diverged": ("decision", "-more * sample.better", "more * sample.better", "decision"),
    "divergence not counted": (
        "decision",
        "counted = too_few & (more != 0)",
        "counted = too_few & (more > 1)",
        "decision",
    ),
    "numbers as good as counts": ("decision", "p / 2 if sample.lost", "p if sample.lost", "decision"),
    "unequal divergence equivalent": (
        "decision",
        "np.where(_lost_some(sample, weights), np.nan",
        "np.where(False, 0",
        "decision",
    ),
    "equivalence of each claim by itself": ("decision", "len(claims.metric) * ALPHA", "ALPHA", "decision"),
    "margin ignored by verdicts": ("decision", "np.minimum(margin - one", "np.minimum(1.0 - one", "decision"),
    "allowance left out": ("decision", "one.estimate + claims.allowed[mine]", "one.estimate", "decision"),
    "looks that each have it all": ("decision", "return 1 / max(1, looks)", "return 1", "decision"),
    "called before its runs have ended": (
        "verdict",
        'np.where(still & (held == ""), said',
        "np.where(still, said",
        "verdict",
    ),
    "called with too few seeds": (
        "verdict",
        "(shape_of(plan, claims)) > ALPHA",
        "(shape_of(plan, claims)) > 1",
        "verdict",
    ),
    "images left out": ("verdict", "floors = _image_variances(runs, answers or {})", "floors = {}", "verdict"),
    "sides swapped": (
        "contrast",
        "return Sides(treatment, control)",
        "return Sides(control, treatment)",
        "registration",
    ),
    "sides of a mean over arms swapped": ("contrast", "for sign in (1, -1)))", "for sign in (-1, 1)))", "contrast"),
    "difference of differences added": (
        "contrast",
        "treatment - control, also",
        "treatment + control, also",
        "contrast",
    ),
    "sign of a claim ignored": (
        "verdict",
        "decided.direction[i] * claim.sign > 0",
        "decided.direction[i] > 0",
        "verdict",
    ),
    "looks at all the seeds": (
        "verdict",
        "claims, seeds, floors) for",
        "claims, len(plan.seeds), floors) for",
        "registration",
    ),
    "images of a verdict at another level": (
        "verdict",
        "for_new_images(low, high, by_image, within)",
        "for_new_images(low, high, by_image)",
        "registration",
    ),
    "never exploratory": ("verdict", "(seeds < rule.confirmatory_seeds)", "(seeds < 0)", "verdict"),
    "looks of divergence each have it all": (
        "divergence",
        "adjusted * looks * ALPHA",
        "adjusted * ALPHA",
        "divergence",
    ),
    "rows of divergence each by itself": (
        "divergence",
        'statistics.tarone_holm(frame["p"].to_list(), frame["least"].to_list())',
        'frame["p"]',
        "divergence",
    ),
    "wrong only where there is nothing": (
        "simulation",
        "(np.sign(decided.direction) != np.sign(shifted))",
        "(shifted == 0)",
        "simulation",
    ),
    "the last look decides": (
        "simulation",
        "before = told.different | told.equivalent",
        "before = told.different & False",
        "simulation",
    ),
    "the least of the settings": ("simulation", "lambda: max(", "lambda: min(", "simulation"),
    "power of each claim by itself": ("power", "max(1.0, share)", "1", "power"),
    "power at twice the level": (
        "power",
        ".critical(df, alpha))\n    if not",
        ".critical(df, 2 * alpha))\n    if not",
        "power",
    ),
    "spread of more seeds": ("power", "math.sqrt(seeds / n)", "1", "power"),
    "images not taken for random": (
        "statistics",
        "half = math.hypot((high - low) / 2, ",
        "half = max((high - low) / 2, 0 * ",
        "statistics",
    ),
}
"""By name: a module (see `source`), code in it, the code that replaces it, and the tests that must notice."""


def source(root: Path, module: str) -> Path:
    """The file of a module: of those that reports infer with, all but one are in one folder."""
    return root / ("ablations" if module == "identity" else "reports/inference") / f"{module}.py"


def copied(folder: Path) -> Path:
    """The code that reports are tested with; without what the tests of trainings need."""
    no_caches = shutil.ignore_patterns("__pycache__", "*.pyc")
    for package in ("cifar_ablations", "ablations", "reports", "benchmarks", "study"):
        shutil.copytree(ROOT / package, folder / package, symlinks=True, ignore=no_caches)
    (folder / "tests" / "reports" / "inference").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "reports" / "conftest.py", folder / "tests" / "reports")
    for name in FILES:
        shutil.copy(ROOT / TESTS / f"test_{name}.py", folder / TESTS)
    shutil.copy(ROOT / "tests" / "fresh_store.py", folder / "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    files = [f"{TESTS}/test_{name}.py" for name in names]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.exhaustive
def test_the_unchanged_copy_passes(tmp_path):
    done = run(copied(tmp_path), *FILES)
    assert done.returncode == 0, done.stdout[-3_000:]


def test_what_is_to_be_mutated_is_there():
    for name, (module, old, new, noticing) in MUTATIONS.items():
        assert old in source(ROOT, module).read_text(encoding="utf-8"), name
        assert old != new, name
        assert noticing in FILES, name


@pytest.mark.exhaustive
@pytest.mark.parametrize(("module", "old", "new", "noticing"), MUTATIONS.values(), ids=MUTATIONS)
def test_a_slip_is_noticed(tmp_path, module, old, new, noticing):
    path = source(copied(tmp_path), module)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    done = run(tmp_path, noticing)
    # 1 is a failed test; a copy that cannot be imported ends otherwise.
    assert (done.returncode, "FAILED tests/" in done.stdout) == (1, True), done.stdout[-3_000:] + done.stderr[-1_000:]
