"""An extension as a person writes one, in a folder of its own: a technique, a plan, a search, a metric, a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cifar_ablations.ablations import extensions

TECHNIQUE = '''
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from cifar_ablations.ablations import schema
from cifar_ablations.ablations.technique import Technique, knob

@dataclass(frozen=True)
class Fade(Technique):
    """Every image is faded towards black."""
    share: float = knob(0.0, doc="how much of an image is taken away", low=0.0, high=1.0, search=(0.1, 0.5))
    name: ClassVar[str] = "fade"
    title: ClassVar[str] = "fading"
    source: ClassVar[str] = "Nobody 2020"
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"off": {}, "on": {"share": 0.5}}
    mechanism: ClassVar[tuple[str, ...]] = (schema.WEIGHT_NORM,)

    def augment(self, images, draws):
        return images if self.share == 0.0 else (images * (1 - self.share)).to(images.dtype)
'''

PLAN = '''
from cifar_ablations.ablations.plan import Arm, Plan
from cifar_ablations.ablations.record import ClaimRecord

QUESTION = "Does fading help?"

def plan(asked):
    """The baseline, and with fading."""
    arms = (Arm("clear", asked.baseline), Arm("faded", asked.baseline.set("fade=on")))
    claims = tuple(
        ClaimRecord(f"Fading lowers {metric}", "fade", metric, -1, "faded", "clear", metric, "Nobody 2020")
        for metric in ("test/accuracy", "surprise")
    )
    return Plan("fading", QUESTION, arms, asked.seeds, asked.rule, claims)
'''

SEARCH = """
from cifar_ablations.ablations.search import Study, parameter

QUESTION = "How much fading is best?"
DEFAULT_TRIALS = 4

def search(baseline, trials):
    yield [Study("fading", baseline.set("fade=on"), (parameter("fade.share"),), trials)]
"""

METRIC = """
from cifar_ablations.ablations.metrics import ENDING, Metric

METRIC = Metric("the surprise", ENDING, of_training=lambda end: float(-end.log_probabilities.amax(dim=1).mean()))
"""

NETWORK = """
from torch import nn
from cifar_ablations.study.training.model import DropoutSite

def network(width, classes):
    size = max(1, round(64 * width))
    first = [nn.Conv2d(3, size, 4, stride=4), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*first, DropoutSite(4 * size), nn.Linear(4 * size, classes))
"""

FILES = {
    "techniques/fade.py": TECHNIQUE,
    "plans/fading.py": PLAN,
    "searches/fading.py": SEARCH,
    "metrics/surprise.py": METRIC,
    "networks/patches.py": NETWORK,
}


def put_extension(folder: Path, files: dict[str, str] = FILES) -> Path:
    """The folder, with these files in it."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@contextmanager
def named(*folders: Path) -> Iterator[None]:
    """Folders that are extensions of this process within."""
    before = extensions.named()
    extensions.name(*folders)
    try:
        yield
    finally:
        extensions.name(*before)
