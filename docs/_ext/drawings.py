"""The drawings of the page of concepts, as SVG that takes its colours from the page: light or dark."""

from pathlib import Path

INK = "var(--color-foreground-primary)"
PALE = "var(--color-foreground-muted)"
COLOURS = {"+": "var(--la-positive)", "-": "var(--la-negative)", "?": "var(--la-uncertain)", "": "none"}

Cells = dict[str, list[str]]  # by source: a cell each image and class, row by row


class Drawing:
    """Shapes in a frame of `width` by `height`."""

    def __init__(self, width: int, height: int, label: str) -> None:
        self.parts = [
            f'<div class="la-frame"><svg class="la-drawing" viewBox="0 0 {width} {height}" width="{width}" role="img" '
            f'aria-label="{label}" xmlns="http://www.w3.org/2000/svg">',
            '<defs><marker id="la-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{PALE}"/></marker></defs>',
        ]

    def text(self, x: float, y: float, words: str, *, anchor: str = "start", css: str = "") -> None:
        self.parts.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{css}">{words}</text>')

    def box(self, x: float, y: float, width: float, height: float, *lines: str, css: str = "la-box") -> None:
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" class="{css}"/>')
        top = y + height / 2 - 8 * (len(lines) - 1)
        for index, line in enumerate(lines):
            self.text(x + width / 2, top + 16 * index + 4, line, anchor="middle")

    def arrow(self, *points: tuple[float, float], css: str = "la-arrow") -> None:
        path = " ".join(f"{x},{y}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" class="{css}" marker-end="url(#la-head)"/>')

    def cell(self, x: float, y: float, state: str, *, derived: bool = False, size: float = 24) -> None:
        css = "la-cell la-derived" if derived else "la-cell"
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{size}" height="{size}" class="{css}" fill="{COLOURS[state]}" '
            f'stroke="{PALE}"/>'
        )
        if state:
            words = {"+": "1", "-": "0", "?": "?"}[state]
            self.text(x + size / 2, y + size / 2 + 4, words, anchor="middle", css="la-state")

    def svg(self) -> str:
        return "\n".join([*self.parts, "</svg></div>\n"])


def _grid(
    drawing: Drawing,
    x: float,
    y: float,
    rows: list[str],
    *,
    derived: list[str] | None = None,
    step: float = 27,
) -> None:
    """Draw rows of states, each a text of +, -, ? and blank; `derived` holds a * where a cell is derived."""
    for row, states in enumerate(rows):
        for column, state in enumerate(states):
            mark = derived is not None and derived[row][column] == "*"
            drawing.cell(x + step * column, y + step * row, state.strip(), derived=mark)


def _columns(drawing: Drawing, x: float, y: float, names: list[str], step: float = 27) -> None:
    for column, name in enumerate(names):
        at = x + step * column + 15
        drawing.parts.append(f'<text x="{at}" y="{y}" transform="rotate(-40 {at} {y})">{name}</text>')


def assembling() -> str:
    """Two sources with their own columns become one table."""
    d = Drawing(640, 250, "Two tables with different classes become one table with unknown cells")
    d.text(10, 20, "archive", css="la-title")
    _columns(d, 12, 88, ["Nodule", "Edema"])
    _grid(d, 10, 94, ["+-", "--", "-+"])
    d.text(150, 20, "clinic", css="la-title")
    _columns(d, 152, 88, ["COVID-19", "Edema"])
    _grid(d, 150, 94, ["+-", "-?", "++"])
    d.arrow((270, 134), (345, 134))
    d.text(308, 124, "by name", anchor="middle", css="la-small")
    d.text(370, 20, "one table", css="la-title")
    _columns(d, 372, 88, ["Nodule", "Edema", "COVID-19"])
    _grid(d, 370, 94, ["+- ", "-- ", "-+ ", " -+", " ?-", " ++"], step=25)
    d.text(460, 134, "archive", css="la-small")
    d.text(460, 209, "clinic", css="la-small")
    d.text(10, 215, "1: positive, 0: negative, ?: uncertain", css="la-small")
    d.text(10, 232, "blank: unknown, not annotated", css="la-small")
    return d.svg()


def derived() -> str:
    """What assume, implies and exclusive fill in."""
    d = Drawing(640, 190, "Unknown cells that assume, exclusive and implies fill in")
    for x, title, names, before, after, mark, rule in (
        (
            10,
            "assume",
            ["Nodule", "COVID-19"],
            ["+ ", "- "],
            ["+-", "--"],
            [" *", " *"],
            "older than the disease",
        ),
        (
            225,
            "exclusive",
            ["melanoma", "nevus"],
            [" +", "+ "],
            ["-+", "+-"],
            ["* ", " *"],
            "one diagnosis a lesion",
        ),
        (
            440,
            "implies",
            ["viral", "pneumonia"],
            ["+ ", " -"],
            ["++", "--"],
            [" *", "* "],
            "one contains the other",
        ),
    ):
        d.text(x, 18, title, css="la-title")
        _columns(d, x + 2, 84, names)
        _grid(d, x, 90, before)
        d.arrow((x + 60, 117), (x + 92, 117))
        _grid(d, x + 100, 90, after, derived=mark)
        d.text(x, 168, rule, css="la-small")
    d.text(10, 186, "dashed: assumed. Trained on, counted apart, never evaluated on.", css="la-small")
    return d.svg()


def views_and_loss() -> str:
    """One image, two views, one network, three terms."""
    d = Drawing(
        640, 270, "An image becomes a weak and a strong view; both pass the network and meet three loss terms"
    )
    d.box(10, 100, 80, 50, "image")
    d.box(130, 40, 100, 44, "weak view", "flip, rotate")
    d.box(130, 166, 100, 44, "strong view", "noise, erase")
    d.arrow((90, 115), (110, 115), (110, 62), (130, 62))
    d.arrow((90, 135), (110, 135), (110, 188), (130, 188))
    d.box(270, 100, 90, 50, "one network")
    d.arrow((230, 62), (315, 62), (315, 100))
    d.arrow((230, 188), (315, 188), (315, 150))
    d.arrow((360, 112), (400, 112), (400, 40), (430, 40))
    d.text(366, 106, "a_w", css="la-small")
    d.arrow((400, 112), (400, 122), (430, 122))
    d.arrow((360, 138), (400, 138), (400, 205), (430, 205))
    d.text(366, 154, "a_s", css="la-small")
    d.box(430, 15, 200, 50, "label known: cross-entropy", "of a_w with the label")
    d.box(430, 97, 200, 50, "label unknown: pseudo-label", "(a_w - s(a_w))&#178;")
    d.box(430, 180, 200, 50, "label unknown: consistency", "(a_s - s(a_w))&#178;")
    d.text(
        10,
        258,
        "s sharpens: it moves a probability above the threshold towards 1, the others towards 0.",
        css="la-small",
    )
    return d.svg()


def head() -> str:
    """Queries, the shared layer, classifiers; a new class is a new row."""
    d = Drawing(
        640, 230, "Each class has a query; one shared layer makes its classifier; a new class adds a row"
    )
    names = ["Nodule", "Edema", "COVID-19"]
    d.text(95, 20, "queries Q", css="la-title")
    for row, name in enumerate([*names, "Hernia"]):
        y = 36 + 30 * row + (14 if row == 3 else 0)
        d.text(85, y + 17, name, anchor="end")
        for column in range(4):
            one = row == column
            d.parts.append(
                f'<rect x="{95 + 26 * column}" y="{y}" width="24" height="24" stroke="{PALE}" '
                f'class="{"la-cell la-derived" if row == 3 or column == 3 else "la-cell"}" '
                f'fill="{"var(--la-positive)" if one else "none"}"/>'
            )
        d.arrow((205, y + 12), (258, y + 12))
        d.arrow((372, y + 12), (416, y + 12))
        d.parts.append(f'<rect x="420" y="{y}" width="120" height="24" rx="3" class="la-box"/>')
        d.text(480, y + 16, f"classifier {row + 1}", anchor="middle")
    d.box(260, 36, 110, 128, "shared layer", "W = Q A&#7488; + b")
    d.text(420, 20, "rows of W", css="la-title")
    d.text(550, 102, "logit =", css="la-small")
    d.text(550, 118, "W &#183; features", css="la-small")
    d.text(
        10,
        205,
        "Dashed: what add_classes([&quot;Hernia&quot;]) adds. Old queries get a 0 in the new column, so the old",
        css="la-small",
    )
    d.text(10, 221, "classes answer as before.", css="la-small")
    return d.svg()


def sharpening() -> str:
    """The curve s(a) for several t."""
    d = Drawing(420, 290, "The sharpening function for t = 1, 2, 4 and infinity")
    left, top, size = 50, 20, 220

    def at(x: float, y: float) -> str:
        return f"{left + size * x:g},{top + size * (1 - y):g}"

    d.parts.append(f'<rect x="{left}" y="{top}" width="{size}" height="{size}" fill="none" stroke="{PALE}"/>')
    for t, css, name in (
        (1, "la-l1", "t = 1"),
        (2, "la-l2", "t = 2"),
        (4, "la-l3", "t = 4"),
        (1e9, "la-l4", "t = inf"),
    ):
        low = f"{at(0, 0)} {at(0.5, 0.5 - 0.5 / t)}"
        high = f"{at(0.5, 0.5 + 0.5 / t)} {at(1, 1)}"
        d.parts.append(f'<polyline points="{low}" class="la-line {css}"/>')
        d.parts.append(f'<polyline points="{high}" class="la-line {css}"/>')
        y = top + 30 + 22 * (1, 2, 4, 1e9).index(t)
        d.parts.append(f'<line x1="290" x2="315" y1="{y}" y2="{y}" class="la-line {css}"/>')
        d.text(322, y + 4, name)
    for value in (0, 0.5, 1):
        d.text(left + size * value, top + size + 18, f"{value:g}", anchor="middle", css="la-small")
        d.text(left - 8, top + size * (1 - value) + 4, f"{value:g}", anchor="end", css="la-small")
    d.text(left + size / 2, top + size + 38, "probability a (threshold 0.5)", anchor="middle", css="la-small")
    d.text(8, top + size / 2 - 30, "s(a)", css="la-small")
    return d.svg()


def write_all(folder: Path) -> None:
    """Write every drawing into `folder` as NAME.svg."""
    for name, draw in (
        ("assembling", assembling),
        ("derived", derived),
        ("views_and_loss", views_and_loss),
        ("head", head),
        ("sharpening", sharpening),
    ):
        (folder / f"{name}.svg").write_text(draw(), encoding="utf-8")
