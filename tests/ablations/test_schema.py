"""Names of the store tell things apart."""

from __future__ import annotations

from cifar_ablations.ablations import schema


def test_no_two_metrics_of_a_training_share_a_name() -> None:
    names = [*schema.CURVES, *schema.ENDINGS, *schema.STATES]
    assert len(names) == len(set(names))


def test_an_outcome_is_a_result_or_is_trained_again() -> None:
    again = {schema.FAILED, schema.INTERRUPTED, schema.PRUNED}
    assert set(schema.CONVERGED) < set(schema.RESULTS)
    assert again.isdisjoint(schema.RESULTS)


def test_no_kind_of_run_is_called_as_another() -> None:
    kinds = [value for name, value in vars(schema).items() if name.startswith("KIND_")]
    assert len(kinds) == len(set(kinds)) == 9
