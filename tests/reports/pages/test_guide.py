"""The guide explains every word that a verdict can be, and loads nothing."""

from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.pages import guide
from cifar_ablations.reports.wording import phrases
from tests.reports.pages.test_plan_page import Parsed


def test_it_explains_the_words_of_verdicts(tmp_path) -> None:
    parsed = Parsed(guide.write_guide(tmp_path).read_text(encoding="utf-8"))
    for word in (phrases.HELPS, phrases.HURTS, phrases.SAME, phrases.LABELS[verdict.SUPPORTED]):
        assert word in parsed.text
    for word in (phrases.OPEN, phrases.LABELS[verdict.REFUTED]):
        assert word in parsed.text
    assert parsed.all("script") == []
    assert len(parsed.all("h1")) == 1
