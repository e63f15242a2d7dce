"""One figure a file: data(…) -> DataFrame, draw(data) -> Figure, describe(data) -> the figure in words."""
