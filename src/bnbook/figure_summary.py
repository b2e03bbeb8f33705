"""What a figure plots, in words and numbers: the text that a screen reader gets and nbval compares.

Every artist that carries data is described. One that cannot be is refused, so that no data goes unverified.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import (
    Collection,
    LineCollection,
    PatchCollection,
    PathCollection,
    PolyCollection,
    QuadMesh,
)
from matplotlib.container import BarContainer, ErrorbarContainer, StemContainer
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import AxLine, Line2D
from matplotlib.patches import FancyArrowPatch, Patch, StepPatch
from matplotlib.quiver import Barbs, Quiver
from mpl_toolkits.mplot3d.art3d import (
    Line3DCollection,
    Patch3D,
    Patch3DCollection,
    Path3DCollection,
    Poly3DCollection,
)


def summary(picture: Figure) -> str:
    """Describe the plotted data: a line of text for each line, scatter, bar chart, image, contour, band, …

    Numbers are rounded to three significant digits. Text, arrows of annotations and colour bars are left out:
    they carry no data of their own.

    Raises:
        ValueError: the figure shows no data, or data of a kind that this function cannot describe.
    """
    lines = []
    plots = [axes for axes in picture.axes if axes.get_label() != "<colorbar>"]
    panels = [panel for axes in plots for panel in _with_insets(axes)]
    for number, axes in enumerate(panels, start=1):
        described = list(_describe(axes))
        if described:
            title = (
                axes.get_title(loc="left")
                or axes.get_title()
                or axes.get_ylabel()
                or f"panel {number}"
            )
            lines.append(f"{title}:")
            lines.extend(f"  {line}" for line in described)
    if not lines:
        raise ValueError("the figure shows no data; plot something in it first")
    return "\n".join(lines)


def _with_insets(axes: Axes) -> Iterator[Axes]:
    yield axes
    for child in axes.child_axes:
        yield from _with_insets(child)


def _describe(axes: Axes) -> Iterator[str]:
    described = set()
    for container in axes.containers if axes.name != "3d" else ():
        if isinstance(container, BarContainer):
            yield _bars(container)
        elif isinstance(container, ErrorbarContainer):
            yield _errorbars(container)
        elif isinstance(container, StemContainer):
            x, y = container.markerline.get_data(orig=False)
            yield _series(container.get_label(), "stems", y, x=x) + _offset(
                container.baseline.get_ydata()
            )
        else:
            continue
        described.update(id(child) for child in container.get_children())
    artists = [
        *axes.lines,
        *axes.patches,
        *axes.collections,
        *axes.images,
        *axes.tables,
        *axes.artists,
    ]
    for artist in artists:
        if id(artist) in described:
            continue
        describe = next(
            describe for kinds, describe in _DESCRIPTIONS if isinstance(artist, kinds)
        )
        if text := describe(artist, axes):
            yield text


def _bars(container: BarContainer) -> str:
    def each(measure: str) -> np.ndarray:
        return _floats([getattr(bar, f"get_{measure}")() for bar in container])

    if container.orientation == "horizontal":
        middle = each("y") + each("height") / 2
        return _series(
            container.get_label(), "horizontal bars", each("width"), y=middle
        ) + _offset(each("x"))
    middle = each("x") + each("width") / 2
    return _series(container.get_label(), "bars", each("height"), x=middle) + _offset(
        each("y")
    )


def _errorbars(container: ErrorbarContainer) -> str:
    points, _, bars = container
    if points is None:  # drawn without markers, as over a bar chart
        parts = [
            f"{_name(container.get_label(), 'error bars')}: n={len(bars[0].get_segments())}"
        ]
    else:
        x, y = points.get_data(orig=False)
        parts = [_series(container.get_label(), "points with bars", y, x=x)]
    directions = ["x"] * container.has_xerr + ["y"] * container.has_yerr
    for direction, collection in zip(directions, bars, strict=True):
        ends = [
            segment[:, "xy".index(direction)]
            for segment in collection.get_segments()
            if len(segment)
        ]
        if ends:
            low, high = np.array([(end.min(), end.max()) for end in ends]).T
            first, last = (f"{_number(low[i])} to {_number(high[i])}" for i in (0, -1))
            parts.append(
                f"{direction} bars first {first}, last {last}, lengths {_range(high - low)}"
            )
    return "; ".join(parts)


def _line(line: Line2D, axes: Axes) -> str:
    label = line.get_label()
    if isinstance(line, AxLine):
        at, slope, other = line.get_xy1(), line.get_slope(), line.get_xy2()
        end = (
            f"slope {_number(slope)}" if other is None else f"through {_numbers(other)}"
        )
        return f"{_name(label, 'straight line')}: through {_numbers(at)}, {end}"
    if hasattr(line, "get_data_3d"):
        x, y, z = line.get_data_3d()
        return _series(label, "line", z, x=x, y=y)
    x, y = line.get_data(orig=False)
    if not len(x):
        return ""
    match line.get_transform().contains_branch_seperately(axes.transData):
        case (True, True):
            return _series(label, "line", y, x=x)
        case (True, False):
            return f"{_name(label, 'vertical line')}: x {_number(x[0])}"
        case (False, True):
            return f"{_name(label, 'horizontal line')}: y {_number(y[0])}"
    return ""  # placed relative to the panel, so not data


def _steps(steps: StepPatch, axes: Axes) -> str:
    values, edges, baseline = steps.get_data()
    text = _series(steps.get_label(), "steps", values, x=edges)
    return text if baseline is None else text + _offset(baseline)


def _shape(patch: Patch, axes: Axes) -> str:
    box = patch.get_path().get_extents(patch.get_patch_transform())
    in_data = patch.get_data_transform().contains_branch_seperately(axes.transData)
    sides = [
        f"{name} {_range(box.get_points()[:, i])}"
        for i, name in enumerate("xy")
        if in_data[i]
    ]
    return f"{_name(patch.get_label(), 'shape')}: {', '.join(sides)}" if sides else ""


def _points(points: PathCollection, axes: Axes) -> str:
    x, y = _floats(points.get_offsets()).T
    text = _series(points.get_label(), "points", y, x=x) if len(x) else ""
    if text and len(set(points.get_sizes())) > 1:
        text += f", sizes {_range(points.get_sizes())}"
    return text and text + _colours(points)


def _contours(contours: ContourSet, axes: Axes) -> str:
    text = _series(contours.get_label(), "contour levels", contours.levels)
    text += f", drawn from values {_range([contours.zmin, contours.zmax])}"
    if axes.name == "3d":
        return text
    vertices = np.concatenate(
        [np.empty((0, 2)), *(path.vertices for path in contours.get_paths())]
    )
    return text + _ranges({"x": vertices[:, 0], "y": vertices[:, 1]})


def _image(image: AxesImage, axes: Axes) -> str:
    return _grid(image.get_label(), "image", image.get_array())


def _mesh(mesh: QuadMesh, axes: Axes) -> str:
    corners = mesh.get_coordinates()
    sides = ", ".join(
        f"{name} {_range(corners[..., i])}" for i, name in enumerate("xy")
    )
    return f"{_grid(mesh.get_label(), 'mesh', mesh.get_array())}; {sides}"


def _arrows(arrows: Quiver, axes: Axes) -> str:
    u, v = (np.where(arrows.Umask, np.nan, part) for part in (arrows.U, arrows.V))
    parts = {
        "x": arrows.X,
        "y": arrows.Y,
        "along x": u,
        "along y": v,
        "length": np.hypot(u, v),
    }
    return f"{_name(arrows.get_label(), 'arrows')}: n={arrows.N}" + _ranges(parts)


def _segments(lines: LineCollection, axes: Axes) -> str:
    return _cloud(lines, "segments", lines.get_segments())


def _polygons(polygons: PolyCollection | PatchCollection, axes: Axes) -> str:
    offsets = _floats(polygons.get_offsets())
    if len(offsets) > 1:  # one shape, repeated, as in a hexagonal histogram
        return _cloud(polygons, "cells", offsets[:, None])
    kind = "band" if polygons.get_array() is None else "cells"
    return _cloud(polygons, kind, [path.vertices for path in polygons.get_paths()])


def _solid(item: Collection | Patch3D, axes: Axes) -> str:
    # Matplotlib projects 3-D artists when it draws them, and keeps what they show in private attributes.
    if isinstance(item, Path3DCollection | Patch3DCollection):
        x, y, z = (_floats(values) for values in item._offsets3d)
        return (
            _series(item.get_label(), "points", z, x=x, y=y) + _colours(item)
            if len(z)
            else ""
        )
    if isinstance(item, Poly3DCollection):
        unused = np.broadcast_to(item._invalid_vertices, item._faces.shape[:2])
        return _cloud(item, "surface", np.where(unused[..., None], np.nan, item._faces))
    if isinstance(item, Line3DCollection):
        return _cloud(item, "segments", item._segments3d)
    return _cloud(item, "shape", [item._segment3d])


def _annotation(arrow: FancyArrowPatch, axes: Axes) -> str:
    return ""


def _refuse(artist: Artist, axes: Axes) -> str:
    raise ValueError(
        f"no summary for {type(artist).__name__}; draw its data as a line, scatter, bar chart, image, mesh, "
        "contour or band, or describe it in bnbook.figure_summary"
    )


_DESCRIPTIONS = (
    # The first kind that fits describes an artist, so special kinds stand before general ones.
    (Line2D, _line),
    (FancyArrowPatch, _annotation),
    (
        Patch3D
        | Path3DCollection
        | Patch3DCollection
        | Poly3DCollection
        | Line3DCollection,
        _solid,
    ),
    (StepPatch, _steps),
    (Patch, _shape),
    (PathCollection, _points),
    (ContourSet, _contours),
    (Quiver, _arrows),
    (QuadMesh, _mesh),
    (LineCollection, _segments),
    (Barbs, _refuse),
    (PolyCollection | PatchCollection, _polygons),
    (AxesImage, _image),
    (Artist, _refuse),
)


def _name(label: object, kind: str) -> str:
    text = str(label or "")
    return kind if not text or text.startswith("_") else f"{text} ({kind})"


def _series(label: object, kind: str, values, **at) -> str:
    """Count, extent along each axis named in `at`, then first, last, smallest and largest value."""
    values = _floats(values)
    text = f"{_name(label, kind)}: n={len(values)}"
    for axis, places in at.items():
        if len(places := _floats(places)):
            text += f", {axis} {_number(places[0])} to {_number(places[-1])}"
    if len(values):
        text += f", first {_number(values[0])}, last {_number(values[-1])}, {_range(values)}"
    return text


def _grid(label: object, kind: str, array) -> str:
    values = _floats(array)
    ends = (
        f"first {_number(values.flat[0])}, last {_number(values.flat[-1])}"
        if values.size
        else "empty"
    )
    return f"{_name(label, kind)}: {' × '.join(map(str, values.shape))}, {ends}, {_range(values)}"


def _cloud(item: Artist, kind: str, pieces) -> str:
    """Count of pieces and the range of their vertices along each axis."""
    pieces = [_floats(piece) for piece in pieces]
    if not pieces:
        return ""
    vertices = np.concatenate(pieces)
    ranges = _ranges(dict(zip("xyz", vertices.T, strict=False)))
    return f"{_name(item.get_label(), kind)}: n={len(pieces)}{ranges}{_colours(item)}"


def _colours(item: Artist) -> str:
    array = item.get_array() if isinstance(item, Collection) else None
    return "" if array is None else f", coloured by values {_range(array)}"


def _offset(base) -> str:
    base = _floats(base)
    return f", based at {_range(base)}" if np.any(base != 0) else ""


def _ranges(parts: Mapping[str, object]) -> str:
    return "".join(f", {name} {_range(values)}" for name, values in parts.items())


def _range(values) -> str:
    finite = _floats(values)
    finite = finite[np.isfinite(finite)]
    return (
        f"min {_number(finite.min())}, max {_number(finite.max())}"
        if finite.size
        else "no finite value"
    )


def _floats(values) -> np.ndarray:
    """An array of floats with NaN where a value is masked."""
    return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)


def _numbers(values: Iterable[float]) -> str:
    return f"({', '.join(map(_number, values))})"


def _number(value: float) -> str:
    """Three significant digits; rounding noise around zero is printed as 0."""
    if abs(value) < 1e-12:
        return "0"
    return f"{value:.3g}"
