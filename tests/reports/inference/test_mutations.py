"""Slips that would change a verdict must make a test fail: each is made in a copy, on which the tests are run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTS = Path("tests", "reports", "inference")
FILES = ("statistics", "sequential", "verdict", "registration", "factorial")

MUTATIONS = {
    "ddof of the mean's interval": ("statistics", "x.std(ddof=1)", "x.std(ddof=0)", "statistics"),
    "ddof of the seeds and images": ("statistics", "/ (seeds - 1)\n    of_ex", "/ seeds\n    of_ex", "statistics"),
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
    "test of zero made one-sided": (
        "statistics",
        "ttest_1samp(values, 0.0)",
        "ttest_1samp(values, 0.0, alternative='greater')",
        "verdict",
    ),
    "Holm not stepping down": ("statistics", "np.arange(len(p), 0, -1)", "len(p)", "statistics"),
    "Holm left out": ("verdict", "statistics.holm(p.to_list())", "p.to_list()", "verdict"),
    "Holm over all families": ("verdict", 'groupby("family", sort=False)', "groupby(lambda _: 0)", "verdict"),
    "margin ignored by TOST": ("statistics", "-margin, margin)", "-1.0, 1.0)", "statistics"),
    "margin ignored by verdicts": ("verdict", "test.equivalence_p(d, margin)", "test.equivalence_p(d, 1.0)", "verdict"),
    "margin ignored by the e-process": ("sequential", "zero_p(x, margin)", "zero_p(x, 0.0)", "sequential"),
    "equivalence of one side": ("sequential", "return max(below, above)", "return min(below, above)", "sequential"),
    "evidence of fewer seeds": ("sequential", "n / 2 * log_ratio", "(n - 1) / 2 * log_ratio", "sequential"),
    "e-process with the prior inverted": (
        "sequential",
        "math.sqrt((n + c2) / c2)",
        "math.sqrt(n + 1 / c2)",
        "sequential",
    ),
    "sides swapped": ("contrast", "return Sides(treatment, control)", "return Sides(control, treatment)", "verdict"),
    "sides of a mean over arms swapped": ("contrast", "for sign in (1, -1)", "for sign in (-1, 1)", "factorial"),
    "difference of differences added": (
        "contrast",
        "treatment - control, also",
        "treatment + control, also",
        "verdict",
    ),
    "signs of the weights swapped": (
        "contrast",
        "(claim.treatment, 1.0), (claim.control, -1.0)",
        "(claim.treatment, -1.0), (claim.control, 1.0)",
        "registration",
    ),
    "diverged runs dropped from the images": ("contrast", "weight * accuracy", "0.0", "registration"),
    "sign of a claim ignored": ("verdict", '* row["sign"] > 0', "> 0", "verdict"),
    "allowance left out": ("verdict", "test.zero_p(d + allowed)", "test.zero_p(d)", "verdict"),
    "level not shared out over the looks": ("verdict", "max(1, len(rule.looks))", "1", "registration"),
    "looks at all the seeds": ("verdict", "isin(plan.seeds[:look])", "isin(plan.seeds)", "registration"),
    "looks that wait for nobody": ("verdict", "if all((arm.name, seed)", "if any((arm.name, seed)", "registration"),
    "images of a verdict at another level": (
        "verdict",
        "two_way_interval(by_image, 1 - alpha)",
        "two_way_interval(by_image)",
        "registration",
    ),
    "never exploratory": ("verdict", "else n < max(least, planned)", "else False", "verdict"),
    "never late": ("registration", "late = [bool(before) and", "late = [False and", "registration"),
    "late but not exploratory": (
        "registration",
        'exploratory=verdicts["exploratory"] | pd.Series(late, index=verdicts.index)',
        'exploratory=verdicts["exploratory"]',
        "registration",
    ),
    "late by margin or seeds overlooked": (
        "registration",
        "tuple(weighed), plan.rule, plan",
        "tuple(weighed), plan",
        "registration",
    ),
    "late without results": ("registration", "if _seen_since(other, invocation, runs)", "if True", "registration"),
    "Shapley weights those of Banzhaf": (
        "factorial",
        "math.factorial(size) * math.factorial(k - size - 1) / math.factorial(k)",
        "1 / 2 ** (k - 1)",
        "factorial",
    ),
    "interaction of half its size": ("factorial", "return 4 * signs", "return 2 * signs", "factorial"),
    "spread at its estimate": ("verdict", "statistics.upper_limit_of_sd(pairs.sd, pairs.n)", "pairs.sd", "verdict"),
    "ties as improvements": ("statistics", "(above + ties / 2)", "(above + ties)", "statistics"),
    "Friedman's χ² for F": ("statistics", "stats.f.sf(f, k", "stats.f.sf(chi2, k", "statistics"),
    "one-sided limits of a spread": (
        "statistics",
        "chi2.ppf([(1 - confidence) / 2",
        "chi2.ppf([(1 - confidence)",
        "statistics",
    ),
    "seeds and images narrower than seeds": (
        "statistics",
        "if alone.high - alone.mean > half",
        "if False",
        "statistics",
    ),
    "images not taken for random": ("statistics", "max(total, of_example)", "of_seed", "statistics"),
}
"""By name: a module of `reports`, code in it, the code that replaces it, and the tests that must notice."""


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


@pytest.mark.slow
def test_the_unchanged_copy_passes(tmp_path):
    done = run(copied(tmp_path), *FILES)
    assert done.returncode == 0, done.stdout[-3_000:]


def test_what_is_to_be_mutated_is_there():
    for name, (module, old, new, noticing) in MUTATIONS.items():
        assert old in (ROOT / "reports" / "inference" / f"{module}.py").read_text(encoding="utf-8"), name
        assert old != new, name
        assert noticing in FILES, name


@pytest.mark.slow
@pytest.mark.parametrize(("module", "old", "new", "noticing"), MUTATIONS.values(), ids=MUTATIONS)
def test_a_slip_is_noticed(tmp_path, module, old, new, noticing):
    path = copied(tmp_path) / "reports" / "inference" / f"{module}.py"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    done = run(tmp_path, noticing)
    # 1 is a failed test; a copy that cannot be imported ends otherwise.
    assert (done.returncode, "FAILED tests/" in done.stdout) == (1, True), done.stdout[-3_000:] + done.stderr[-1_000:]
