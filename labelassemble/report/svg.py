"""A small writer of inline SVG: shapes take CSS classes, so one drawing serves light and dark pages and print."""

from collections.abc import Sequence

from markupsafe import Markup, escape

Point = tuple[float, float]


class Svg:
    """A drawing under construction. All text is escaped; coordinates are rounded to a hundredth.

    Args:
        width: of the drawing, in its own units; the page scales it.
        height: likewise.
        label: what the drawing shows, in words, for those who do not see it.
    """

    def __init__(self, width: float, height: float, label: str) -> None:
        self._parts = [
            Markup(
                '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" xmlns="http://www.w3.org/2000/svg">'
            ).format(_n(width), _n(height), label)
        ]

    def line(self, start: Point, end: Point, style: str) -> None:
        """Draw a straight line with the CSS class `style`."""
        self._add(
            '<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>',
            _n(start[0]), _n(start[1]), _n(end[0]), _n(end[1]), style,
        )  # fmt: skip

    def path(self, points: Sequence[Point], style: str, *, closed: bool = False) -> None:
        """Draw a line through `points`."""
        if points:
            steps = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
            self._add('<path d="M{}{}" class="{}"/>', steps, "Z" if closed else "", style)

    def rect(self, corner: Point, width: float, height: float, style: str) -> None:
        """Draw a rectangle whose upper left corner is `corner`."""
        self._add(
            '<rect x="{}" y="{}" width="{}" height="{}" class="{}"/>',
            _n(corner[0]), _n(corner[1]), _n(width), _n(height), style,
        )  # fmt: skip

    def circle(self, centre: Point, radius: float, style: str, *, hint: str = "") -> None:
        """Draw a disc; `hint` is shown by browsers when the pointer rests on it."""
        title = Markup("<title>{}</title>").format(hint) if hint else ""
        self._add(
            '<circle cx="{}" cy="{}" r="{}" class="{}">{}</circle>',
            _n(centre[0]), _n(centre[1]), _n(radius), style, title,
        )  # fmt: skip

    def text(
        self, at: Point, words: str, style: str, *, anchor: str = "middle", turned: bool = False
    ) -> None:
        """Write `words` with their baseline at `at`; `turned` reads from bottom to top."""
        turn = Markup(' transform="rotate(-90 {} {})"').format(_n(at[0]), _n(at[1])) if turned else ""
        self._add(
            '<text x="{}" y="{}" text-anchor="{}" class="{}"{}>{}</text>',
            _n(at[0]), _n(at[1]), anchor, style, turn, words,
        )  # fmt: skip

    def markup(self) -> Markup:
        """Return the drawing, safe to put into a page."""
        return Markup("").join([*self._parts, Markup("</svg>")])

    def _add(self, template: str, *values: str | Markup) -> None:
        self._parts.append(Markup(template).format(*(escape(value) for value in values)))


def _n(value: float) -> str:
    return f"{round(value, 2):g}" if abs(value) < 1e5 else f"{value:.0f}"
