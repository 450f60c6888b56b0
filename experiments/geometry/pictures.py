"""Pictures of answers beside the true ones."""

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

RIGHT, WRONG, TRUE = "#1b6ca8", "#c0392b", "#c9d6df"


def cycles(path, examples, *, columns=4, title=""):
    """Draws polygons or round trips into a file: the true one wide and pale, what was said thin, red where it is wrong.

    Args:
      path: the picture.
      examples: ``(points [N, 2], said, true, right, caption)``: indices of points in order, and whether they are right.
      columns: pictures in a row.
      title: above all.
    """

    def draw(axes, points, said, true, colour):
        for order, style in ((true, {"color": TRUE, "lw": 5}), (said, {"color": colour, "lw": 1.4})):
            axes.plot(*points[[*order, *order[:1]]].T, solid_capstyle="round", **style)

    _grid(path, examples, columns, title, draw)


def triangles(path, examples, *, columns=4, title=""):
    """Draws triangulations into a file: the edges of the true one wide and pale. Arguments as for :func:`cycles`, triangles
    ``[M, 3]`` for orders."""

    def draw(axes, points, said, true, colour):
        for each, style in ((true, {"color": TRUE, "lw": 5}), (said, {"color": colour, "lw": 1.0})):
            for corners in np.asarray(each, int).reshape(-1, 3):
                axes.plot(*points[[*corners, corners[0]]].T, solid_capstyle="round", **style)

    _grid(path, examples, columns, title, draw)


def _grid(path, examples, columns, title, draw):
    rows = -(-len(examples) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(2.4 * columns, 2.6 * rows + 0.4), layout="constrained", squeeze=False
    )
    for axes, example in zip(grid.flat, [*examples, *[None] * (rows * columns - len(examples))], strict=True):
        axes.set(xticks=[], yticks=[], aspect="equal")
        if example is None:
            axes.axis("off")
            continue
        points, said, true, right, caption = example
        draw(axes, np.asarray(points), list(said), list(true), RIGHT if right else WRONG)
        axes.plot(*np.asarray(points).T, "o", color="black", ms=2.6)
        axes.spines[:].set_color("lightgrey")
        axes.set_title(caption, fontsize=8, color="black" if right else WRONG)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)
    plt.close(figure)
