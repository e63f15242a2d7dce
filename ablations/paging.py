"""All results of a query that a store answers page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def entries(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """The entries of every page, in order.

    ask: gives the page that a token stands for, the first for None: something to iterate over, with the next page's
    `token`, which is empty on the last one.
    """
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return
