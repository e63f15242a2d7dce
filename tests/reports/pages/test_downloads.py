"""The list of files beside a page."""

from __future__ import annotations

from cifar_ablations.reports.pages import downloads


def test_a_file_is_listed_with_its_kind_and_what_is_in_it() -> None:
    first, second = downloads.listed("techniques-quick", ["verdicts.csv", "runs.parquet"])
    assert first == {"name": "techniques-quick-verdicts.csv", "kind": "CSV", "about": "a row per claim"}
    assert (second["name"], second["kind"]) == ("techniques-quick-runs.parquet", "Parquet")


def test_every_table_is_said_to_be_something_of_its_own() -> None:
    assert len(set(downloads.ABOUT.values())) == len(downloads.ABOUT)
