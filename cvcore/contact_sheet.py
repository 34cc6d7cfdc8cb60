"""Several pictures as one, so that a page shows and sends them in one piece."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont


def contact_sheet(
    pictures: Sequence[Image.Image],
    columns: int,
    labels: Sequence[str] = (),
    background: str = "#ffffff",
    ink: str = "#000000",
    gap: int = 8,
) -> bytes:
    """Lay pictures of one size out in rows and return the sheet as JPEG bytes (quality 85).

    Args:
        pictures: RGB pictures, all of the size of the first; at least one.
        columns: pictures a row.
        labels: a text below each picture, as many as pictures, or none.
        background: colour of the gaps, as Pillow reads colours.
        ink: colour of the labels.
        gap: pixels between pictures.
    """
    width, height = pictures[0].size
    text_height = max(10, height // 9)
    font = ImageFont.load_default(text_height)
    strip = round(1.5 * text_height) if labels else 0
    rows = -(-len(pictures) // columns)
    step_x, step_y = width + gap, height + strip + gap
    sheet = Image.new("RGB", (columns * step_x - gap, rows * step_y - gap), background)
    pen = ImageDraw.Draw(sheet)
    for index, picture in enumerate(pictures):
        x, y = index % columns * step_x, index // columns * step_y
        sheet.paste(picture, (x, y))
        if labels:
            pen.text((x + width / 2, y + height + strip / 2), labels[index], fill=ink, font=font, anchor="mm")
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=85)
    return stream.getvalue()
