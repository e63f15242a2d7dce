"""What a person types; the program's name is tested where it is said first, in `test_dataset.py`."""

from __future__ import annotations

import pytest

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.study.data.typed import image_size, option, typed_source


def test_the_option_for_data_is_quoted_and_left_out_where_none_was_given() -> None:
    assert option(None) == option("") == ""
    assert option("cifar100") == " --data cifar100"
    assert option("my images/a.zip") == " --data 'my images/a.zip'"


def test_the_size_travels_with_the_source_and_is_typed_again() -> None:
    source = typed_source("my images", 32)
    assert source == "my images"
    assert image_size(source) == 32
    assert option(source) == " --data 'my images' --image-size 32"
    assert typed_source("my images", None) == "my images"
    assert image_size("my images") is None


@pytest.mark.parametrize("source", [None, ""])
def test_a_size_without_a_source_is_refused(source: str | None) -> None:
    assert typed_source(source, None) == source
    with pytest.raises(AblateError, match="--image-size resizes the images of --data PATH; give both"):
        typed_source(source, 32)
