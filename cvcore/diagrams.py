"""The four strategies as one picture each (SVG): what is borrowed, what is trained. Without words, so that they read
on any background."""

from cvcore.charts import NEUTRAL, STRATEGY_COLOURS

WIDTH, HEIGHT = 320, 132
ALTERNATIVES = {
    "scratch": "Pictures go through a small network whose every layer is trained.",
    "augmented": "Each picture is changed at random, then goes through a small network whose every layer is trained.",
    "features": "Pictures go through a pretrained base whose layers are all frozen; only the head on top is trained.",
    "finetune": "Pictures go through a pretrained base whose last block and head are trained, its other layers frozen.",
}
# Blocks from input to output: what each is to the strategy.
_BLOCKS = {
    "scratch": ("trained", "trained", "trained"),
    "augmented": ("trained", "trained", "trained"),
    "features": ("frozen", "frozen", "frozen"),
    "finetune": ("frozen", "frozen", "trained"),
}


def strategy_diagram(strategy: str) -> str:
    """Draw one strategy from picture to answer.

    Args:
        strategy: scratch, augmented, features or finetune.

    Returns:
        An SVG document: picture, (random change,) three blocks of the base, head; trained parts filled with the
        strategy's colour, frozen ones grey with a padlock.
    """
    colour = STRATEGY_COLOURS[strategy]
    parts = [_arrow(62, 82), _picture(8, 46)]
    if strategy == "augmented":
        parts = [_arrow(62, 82), _picture(2, 30, -14), _picture(14, 60, 12), _picture(8, 46)]
    for index, (state, height) in enumerate(zip(_BLOCKS[strategy], (108, 84, 60), strict=True)):
        x = 86 + index * 52
        parts.append(_block(x, height, colour if state == "trained" else NEUTRAL))
        if state == "frozen":
            parts.append(_padlock(x + 22, HEIGHT / 2))
    parts += [_arrow(240, 258), _block(262, 36, colour), *_answer()]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        + "".join(parts)
        + "</svg>"
    )


def _block(x: float, height: float, colour: str) -> str:
    y = (HEIGHT - height) / 2
    return f'<rect x="{x}" y="{y}" width="44" height="{height}" rx="6" fill="{colour}"/>'


def _arrow(x0: float, x1: float) -> str:
    y = HEIGHT / 2
    return (
        f'<path d="M{x0} {y}H{x1 - 3}M{x1 - 8} {y - 5}L{x1 - 2} {y}L{x1 - 8} {y + 5}" '
        f'fill="none" stroke="{NEUTRAL}" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/>'
    )


def _picture(x: float, y: float, turn: float = 0) -> str:
    """A framed landscape, 48 by 40, turned by some degrees."""
    return (
        f'<g transform="rotate({turn} {x + 24} {y + 20})">'
        f'<rect x="{x}" y="{y}" width="48" height="40" rx="5" fill="#FFFFFF" stroke="{NEUTRAL}" stroke-width="2"/>'
        f'<circle cx="{x + 14}" cy="{y + 13}" r="5" fill="{NEUTRAL}"/>'
        f'<path d="M{x + 5} {y + 34}L{x + 18} {y + 21}L{x + 26} {y + 28}L{x + 34} {y + 17}L{x + 43} {y + 34}Z" '
        f'fill="{NEUTRAL}"/></g>'
    )


def _padlock(x: float, y: float) -> str:
    return (
        f'<path d="M{x - 5} {y - 1}V{y - 6}A5 5 0 0 1 {x + 5} {y - 6}V{y - 1}" fill="none" stroke="#FFFFFF" '
        f'stroke-width="2.5"/><rect x="{x - 8}" y="{y - 1}" width="16" height="12" rx="2.5" fill="#FFFFFF"/>'
    )


def _answer() -> list[str]:
    """Two bars on the head: the probability of each class."""
    return [
        f'<rect x="269" y="{HEIGHT / 2 - 10}" width="30" height="7" rx="3" fill="#FFFFFF"/>',
        f'<rect x="269" y="{HEIGHT / 2 + 3}" width="12" height="7" rx="3" fill="#FFFFFF"/>',
    ]


def icon() -> str:
    """Draw the project's icon: four rising bars, one a strategy."""
    bars = "".join(
        f'<rect x="{2 + 7 * index}" y="{22 - 6 * index}" width="5" height="{8 + 6 * index}" rx="1.5" fill="{colour}"/>'
        for index, colour in enumerate(STRATEGY_COLOURS.values())
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="32" height="32">{bars}</svg>'
