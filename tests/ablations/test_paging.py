"""Every entry of every page, once, and no page asked for twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cifar_ablations.ablations import paging


class Page(list[int]):
    token = ""


@given(st.lists(st.lists(st.integers()), min_size=1))
def test_every_page_is_asked_for_once_and_in_order(pages: list[list[int]]) -> None:
    asked = []

    def ask(token: str | None) -> Page:
        asked.append(token)
        place = int(token or 0)
        page = Page(pages[place])
        page.token = str(place + 1) if place + 1 < len(pages) else ""
        return page

    assert list(paging.entries(ask)) == [entry for page in pages for entry in page]
    assert asked == [None, *(str(place) for place in range(1, len(pages)))]
