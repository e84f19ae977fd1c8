"""Drawings of a plan: the numbered grid of Figure 5 and the three masks of Figure 2.

A set has one colour everywhere, from dark (first) to light (last): its cells in the grid, its keys
(columns) in the masks. Pictures have no paper of their own: they can be read on white and on black.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, zip_longest
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from rich.color import Color
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.style import Style
from rich.text import Text
from torch import Tensor

from setar.recipes.clocks import attention_clocks, visible
from setar.recipes.orders import centres, ranks
from setar.recipes.recipe import SetPlan

Colour = tuple[int, ...]

_VIRIDIS = "440154 482878 3e4a89 31688e 26828e 1f9e89 35b779 6dcd59 b4de2c fde725"
_ANCHORS = torch.tensor([list(bytes.fromhex(colour)) for colour in _VIRIDIS.split()]).float()
"""Ten even steps of viridis, the map in which equal steps look equal."""

_CONDITION = (132, 132, 142)
_INK = (118, 118, 118)
"""The grey that is as far from white as from black, 4.5 : 1."""
_PAPER = (*_INK, 0)
"""Nothing; of the ink's colour, with which the edges of letters are mixed."""
_HIDDEN = (200, 200, 208, 64)
_DARK, _LIGHT = (32, 32, 40), (255, 255, 255)
"""Of numbers in cells."""

_PANEL_PIXELS = 520
_MASK_CELLS = 257  # a 16 x 16 grid and its condition, exactly
_GUTTER = 84  # left of every mask: its label and set numbers
_HEADING = 116  # above every panel: its title, label and set numbers

_TEXT_MASK_CELLS = 34
_TEXT_COLUMNS = 96
_LEGEND_ENTRIES = 16


def render_image(plan: SetPlan, title: str = "") -> Image.Image:
    """Return an RGBA picture of the plan's first image: numbered grid, masks and set sizes.

    Cells carry their rank in the output, from 0, where they are large enough. Masks of more than
    257 rows are drawn at evenly spaced rows and columns.
    """
    sets, masks = _Sets(plan), _masks(plan, _MASK_CELLS)
    cell = min(96, _PANEL_PIXELS // len(masks[0].keys.clock))  # the same for the three masks
    panels = [_grid_panel(sets), *(_mask_panel(sets, mask, cell) for mask in masks)]
    margin, gap, top = 48, 32, 152
    width = 2 * margin + sum(panel.width for panel in panels) + gap * (len(panels) - 1)
    entries = [([_CONDITION], "condition"), *sets.legend(), ([_HIDDEN], "not visible")]
    legend = _legend_strip(entries, width - 2 * margin)
    bottom = top + max(panel.height for panel in panels) + gap
    canvas = Image.new("RGBA", (width, bottom + legend.height + margin), _PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((margin, 34), title or "set plan", _INK, _font(44))
    pen.text((margin, 88), sets.summary, _INK, _font(25))
    left = margin
    for panel in panels:
        canvas.paste(panel, (left, top))
        left += panel.width + gap
    canvas.paste(legend, (margin, bottom))
    return _cleared(canvas)


def render_grid(plan: SetPlan) -> Image.Image:
    """Return an RGBA picture of the numbered grid of the plan's first image alone, and its legend.

    Cells are as in `render_image`.
    """
    sets = _Sets(plan)
    panel = _grid_cells(sets)
    legend = _legend_strip(sets.legend(), max(panel.width, _PANEL_PIXELS))
    width, gap = max(panel.width, legend.width), 16
    canvas = Image.new("RGBA", (width, panel.height + gap + legend.height), _PAPER)
    canvas.paste(panel, (0, 0))
    canvas.paste(legend, (0, panel.height + gap))
    return _cleared(canvas)


def render_scales(scales: Sequence[tuple[int, int]]) -> Image.Image:
    """Return an RGBA picture of the token maps of a VAR, coarse to fine, each in its set's colour.

    Args:
        scales: rows and columns of each map; every one is drawn as large as the picture it covers.
    """
    last, side, gap, heading = len(scales), 120, 16, 34
    across = min(last, 6)
    lines = -(-last // across)
    canvas = Image.new("RGBA", (across * (side + gap), lines * (side + heading + gap)), _PAPER)
    pen = ImageDraw.Draw(canvas)
    for index, (rows, columns) in enumerate(scales):
        left, top = index % across * (side + gap), index // across * (side + heading + gap)
        place = torch.tensor(index / max(1, last - 1) * (len(_ANCHORS) - 1))
        below = min(int(place), len(_ANCHORS) - 2)
        colour = torch.lerp(_ANCHORS[below], _ANCHORS[below + 1], place - below)
        cell = max(1, side // max(rows, columns))
        cells = _enlarged(colour.round().to(torch.uint8).expand(rows, columns, 3), cell)
        pen.text((left, top), f"set {index + 1}: {rows} x {columns}", _INK, _font(18))
        canvas.paste(cells, (left, top + heading))
    return _cleared(canvas)


def render_text(plan: SetPlan) -> RenderableType:
    """Return the plan's first image for a terminal, as something that `rich` prints.

    It can be read without colours too. Masks of more than 34 rows are drawn at evenly spaced rows
    and columns.
    """
    sets = _Sets(plan)
    masks = [_mask_text(sets, mask) for mask in _masks(plan, _TEXT_MASK_CELLS)]
    lines = [Text(sets.summary), Text(), _grid_text(sets), Text(), _legend_text(sets), Text()]
    rows = sets.ranks.numel() + 1
    if rows > _TEXT_MASK_CELLS:
        note = f"masks drawn at {_TEXT_MASK_CELLS} of their {rows} rows and columns"
        lines.append(Text(note, style="dim"))
    return Group(*lines, Columns(masks))


class _Sets:
    """The sets of a plan's first image: who is in them, and their colours.

    Attributes:
        ranks: int64 [height, width], when each cell is output, from 0.
        members: int64 [height, width], the set of each cell.
        sizes: (set, size) of every set that holds tokens.
        learned: the number of tokens whose loss counts.
    """

    def __init__(self, plan: SetPlan) -> None:
        rank, known = ranks(plan.order[0]).cpu(), plan.known[0].cpu()
        self.ranks, self.members = rank.view(plan.grid), known[rank].view(plan.grid)
        self.sizes = [(clock, len(list(run))) for clock, run in groupby(known.tolist())]
        self.learned = int(plan.supervised[0].sum())

    @property
    def summary(self) -> str:
        (height, width), tokens = self.ranks.shape, self.ranks.numel()
        loss = "" if self.learned == tokens else f", loss on {_count(self.learned, 'token')}"
        words = f"{height} x {width} grid: {_count(tokens, 'token')} in "
        return words + _count(len(self.sizes), "set") + loss

    def thinned(self, limit: int) -> Tensor:
        """Return `members` at no more than `limit` evenly spaced rows and columns."""
        rows, columns = (centres(side, min(side, limit)) for side in self.members.shape)
        return self.members[rows][:, columns]

    def palette(self, members: Tensor) -> Tensor:
        """Return uint8 [..., 3]: the colours of sets 1..K, grey for the condition before them."""
        first, last = self.sizes[0][0], self.sizes[-1][0]
        place = (members - first).clamp(min=0) / max(1, last - first) * (len(_ANCHORS) - 1)
        below = place.long().clamp(max=len(_ANCHORS) - 2)
        colours = torch.lerp(_ANCHORS[below], _ANCHORS[below + 1], (place - below)[..., None])
        colours[members < first] = torch.tensor(_CONDITION, dtype=torch.float32)
        return colours.round().to(torch.uint8)

    def legend(self) -> list[tuple[list[Colour], str]]:
        """Return (colours, words) per run of sets of equal size; evenly spread ones if too many."""
        runs = [
            ([member for member, _ in run], size)
            for size, run in groupby(self.sizes, key=lambda entry: entry[1])
        ]
        entries = []
        for index in _spread(len(runs), _LEGEND_ENTRIES):
            members, size = runs[index]
            shown = torch.tensor([members[kept] for kept in _spread(len(members), 5)])
            words = f"set {members[0]}: {size}"
            if len(members) > 1:
                words = f"sets {members[0]} to {members[-1]}: {size} each"
            entries.append(([tuple(colour) for colour in self.palette(shown).tolist()], words))
        return entries if len(entries) == len(runs) else [*entries, ([], "(and those between)")]


def _spread(count: int, limit: int) -> list[int]:
    """Return at most `limit` evenly spread indices below `count`, both ends among them."""
    kept = min(count, limit)
    return [index * (count - 1) // max(1, kept - 1) for index in range(kept)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class _Axis(NamedTuple):
    """The queries or the keys of a mask: the set of each and the clock it compares."""

    label: str
    members: Tensor
    clock: Tensor


class _Mask(NamedTuple):
    title: str
    queries: _Axis
    keys: _Axis

    @property
    def seen(self) -> Tensor:
        return visible(self.keys.clock, self.queries.clock)


def _masks(plan: SetPlan, limit: int) -> list[_Mask]:
    """Return the three masks of the first image, of at most `limit` rows and columns."""

    def axis(label: str, members: Tensor, clock: Tensor) -> _Axis:
        kept = centres(len(clock), min(len(clock), limit))
        kept[0] = 0  # the condition, where there is one
        return _Axis(label, members[kept], clock[kept])

    known, asks, decoder = (clock[0].cpu() for clock in attention_clocks(plan))
    tokens, askers = axis("known by set", known, known), axis("asked by set", asks + 1, asks)
    return [
        _Mask("encoder self-attention", tokens, tokens),
        _Mask("decoder cross-attention", askers, tokens),
        _Mask("decoder self-attention", axis("asked by set", asks + 1, decoder), askers),
    ]


# The picture.


def _grid_cells(sets: _Sets) -> Image.Image:
    """Draw the grid, every cell in the colour of its set, with its rank where there is room."""
    colours = sets.palette(sets.thinned(_PANEL_PIXELS))
    cell = min(96, _PANEL_PIXELS // max(colours.shape[:2]))
    cells = _enlarged(colours, cell)
    size = min(int(cell * 0.42), int(cell * 1.4 / len(str(sets.ranks.numel() - 1))))
    if size >= 10:  # large enough to read, and so not thinned
        pen = ImageDraw.Draw(cells)
        for row, line in enumerate(sets.ranks.tolist()):
            for column, rank in enumerate(line):
                centre = ((column + 0.5) * cell, (row + 0.5) * cell)
                ink = _contrast(colours[row, column].tolist())
                pen.text(centre, str(rank), ink, _font(size), anchor="mm")
    return cells.resize((max(cells.width, 24), max(cells.height, 24)), Image.Resampling.NEAREST)


def _grid_panel(sets: _Sets) -> Image.Image:
    """Draw the grid with its heading."""
    cells = _grid_cells(sets)
    panel = Image.new("RGBA", (max(cells.width, 360), _HEADING + cells.height), _PAPER)
    pen = ImageDraw.Draw(panel)
    pen.text((0, 0), "output order", _INK, _font(30))
    pen.text((0, 40), "rank of each cell, from 0", _INK, _font(22))
    panel.paste(cells, (0, _HEADING))
    return panel


def _mask_panel(sets: _Sets, mask: _Mask, cell: int) -> Image.Image:
    """Draw one mask: title, labelled axes with set numbers, and the matrix."""
    seen = mask.seen
    colours = sets.palette(mask.keys.members).expand(*seen.shape, 3)
    colours = torch.cat([colours, torch.full((*seen.shape, 1), 255)], -1)  # opaque
    hidden = torch.tensor(_HIDDEN)
    matrix = _enlarged(torch.where(seen[..., None], colours, hidden), cell)
    width, height = max(matrix.width, 340), max(matrix.height, 260)
    panel = Image.new("RGBA", (_GUTTER + width + 12, _HEADING + height + 12), _PAPER)
    pen = ImageDraw.Draw(panel)
    pen.text((_GUTTER, 0), mask.title, _INK, _font(30))
    pen.text((_GUTTER, 40), f"keys: {mask.keys.label}", _INK, _font(22))
    # Upwards along the left edge, beginning beside the first row.
    text, font = f"queries: {mask.queries.label}", _font(22)
    strip = Image.new("RGBA", (int(font.getlength(text)) + 2, 28), _PAPER)
    ImageDraw.Draw(strip).text((0, 0), text, _INK, font)
    panel.paste(strip.rotate(90, expand=True), (0, _HEADING))
    for centre, name in _ticks(mask.keys.members, cell, upright=False):
        pen.text((_GUTTER + centre, _HEADING - 8), name, _INK, _font(20), anchor="ms")
    for centre, name in _ticks(mask.queries.members, cell, upright=True):
        pen.text((_GUTTER - 8, _HEADING + centre), name, _INK, _font(20), anchor="rm")
    panel.paste(matrix, (_GUTTER, _HEADING))
    return panel


def _ticks(members: Tensor, cell: int, upright: bool) -> Iterator[tuple[float, str]]:
    """Yield (pixel, set number) at the middle of every run that has room for its number."""
    start, free = 0, float("-inf")  # `free`: where the last number ends
    for member, run in groupby(members.tolist()):
        stop = start + len(list(run))
        centre, name = (start + stop) / 2 * cell, str(member)
        half = 12 if upright else _font(20).getlength(name) / 2 + 7
        if centre - half >= free:
            yield centre, name
            free = centre + half
        start = stop


def _legend_strip(entries: Sequence[tuple[Sequence[Colour], str]], width: int) -> Image.Image:
    """Draw a swatch and its words for every entry of the legend, wrapped at `width`."""
    font, line, left, top = _font(24), 44, 0, 0
    strip = Image.new("RGBA", (width, line * len(entries)), _PAPER)
    pen = ImageDraw.Draw(strip)
    for colours, words in entries:
        extent = 24 * len(colours) + int(font.getlength(words)) + 46
        if left and left + extent > width:
            left, top = 0, top + line
        for index, colour in enumerate(colours):
            swatch = left + 24 * index
            pen.rectangle((swatch, top + 5, swatch + 23, top + 29), colour)
        pen.text((left + 24 * len(colours) + 10, top + 17), words, _INK, font, anchor="lm")
        left += extent
    return strip.crop((0, 0, width, top + line))


def _enlarged(colours: Tensor, cell: int) -> Image.Image:
    """Return [rows, columns, 3 or 4] as a picture of square cells, a gap between large ones."""
    rows, columns, _ = colours.shape
    picture = Image.fromarray(colours.to(torch.uint8).contiguous().numpy()).convert("RGBA")
    picture = picture.resize((columns * cell, rows * cell), Image.Resampling.NEAREST)
    if cell >= 6:
        pen, line = ImageDraw.Draw(picture), max(1, cell // 24)
        for edge in range(cell, columns * cell, cell):
            pen.line((edge, 0, edge, picture.height), _PAPER, line)
        for edge in range(cell, rows * cell, cell):
            pen.line((0, edge, picture.width, edge), _PAPER, line)
    return picture


def _cleared(picture: Image.Image) -> Image.Image:
    """Return the picture with white where nothing is drawn, for programs that know no alpha."""
    nothing = picture.getchannel("A").point([255, *[0] * 255])
    picture.paste((255, 255, 255, 0), mask=nothing)
    return picture


def _contrast(colour: Sequence[int]) -> Colour:
    """Return dark or white, whichever is easier to read on `colour`."""
    red, green, blue = colour
    return _DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else _LIGHT


_font = lru_cache(maxsize=64)(ImageFont.load_default)


# The terminal.


def _grid_text(sets: _Sets) -> Text:
    """Write the grid as numbered cells, or as coloured half blocks where that is too wide."""
    digits = len(str(sets.ranks.numel() - 1))
    if sets.ranks.shape[1] * (digits + 2) > _TEXT_COLUMNS:
        return _grid_blocks(sets)
    text = Text()
    for ranks_, members in zip(sets.ranks.tolist(), sets.members, strict=True):
        for rank, colour in zip(ranks_, sets.palette(members).tolist(), strict=True):
            text.append(f" {rank:>{digits}} ", _style(_contrast(colour), colour))
        text.append("\n")
    text.rstrip()
    return text


def _grid_blocks(sets: _Sets) -> Text:
    colours, text = sets.palette(sets.thinned(_TEXT_COLUMNS)).tolist(), Text()
    for row in range(0, len(colours), 2):
        for pair in zip(*colours[row : row + 2], strict=True):  # nothing is below an odd last row
            text.append("▀", _style(*pair))
        text.append("\n")
    text.rstrip()
    return text


def _mask_text(sets: _Sets, mask: _Mask) -> Panel:
    """Write a mask with half blocks, two rows to a line, each column in the colour of its set."""
    seen = mask.seen.tolist()
    colours = sets.palette(mask.keys.members).tolist()
    text = Text()
    for row, below in zip_longest(seen[::2], seen[1::2], fillvalue=[False] * len(colours)):
        for upper, lower, colour in zip(row, below, colours, strict=True):
            text.append(" ▄▀█"[2 * upper + lower], _style(colour))
        text.append("\n")
    text.append(f"rows: {mask.queries.label}\ncolumns: {mask.keys.label}", "dim")
    return Panel.fit(text, title=mask.title)


def _legend_text(sets: _Sets) -> Text:
    text = Text()
    for colours, words in sets.legend():
        for colour in colours:
            text.append("■", _style(colour))
        text.append(f" {words}   ")
    return text


def _style(colour: Sequence[int], background: Sequence[int] | None = None) -> Style:
    behind = None if background is None else Color.from_rgb(*background)
    return Style(color=Color.from_rgb(*colour), bgcolor=behind)
