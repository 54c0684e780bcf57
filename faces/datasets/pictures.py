"""From the bytes of an image file to a square of RGB pixels. Refuses what a careful reader should not open."""

import io
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 25_000_000  # a 21 kB file can claim 170 million, half a gigabyte once decoded
MAX_WEBP = 12_500_000  # its decoder holds four copies
LARGE = 4_000_000  # pixels; what has more is made smaller in bands
ORIENTATION = 0x0112  # of EXIF: how the camera was held


def opened(data: bytes) -> Any:
    """The PIL image, its header read and its pixels not yet. ValueError, in a few words, when it may not be used."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("not an image in JPEG, PNG, WebP, BMP or GIF format") from None
    except Image.DecompressionBombError:
        raise ValueError(f"claims far more than {MAX_PIXELS:,} pixels") from None
    width, height = image.size
    most = MAX_WEBP if image.format == "WEBP" else MAX_PIXELS
    if width * height > most:
        raise ValueError(f"{width:,} x {height:,} pixels are more than {most:,}, the most for {image.format}")
    if image.mode.startswith(("I", "F")):
        raise ValueError("more than 8 bits per channel")
    return image


def square(image: Any, size: int, upright: bool = False) -> Any:
    """The centre square of an opened image as an RGB image of size x size.

    Bilinear with antialiasing. It equals resizing the shortest side to `size` and cropping the
    centre, done in one step. A JPEG more than twice as large as needed is first decoded at 1/2,
    1/4 or 1/8 ("draft"): for 160 px photographs the same pixels at 64 px and above, and 1.1 of 255
    grey levels away at 32 px (mean over 600), in half the time.
    Any image of more than 4 million pixels is first averaged over blocks (`centre`).
    Transparent images are laid on white. `upright` turns a photo the way its camera was held.
    """
    from PIL import Image, ImageOps

    image.draft("RGB", (2 * size, 2 * size))
    if image.width * image.height > LARGE:
        image = centre(image, 4 * size)
    if upright:
        image = ImageOps.exif_transpose(image)
    image = on_white(image)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))


def on_white(image: Any) -> Any:
    """The image as RGB, with white behind what is transparent."""
    from PIL import Image

    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def centre(image: Any, least: int) -> Any:
    """The centre square of a large image on white, averaged over blocks of pixels; `least` of them a side are left.

    It is done in bands of rows, so that the whole image is in memory only once.
    """
    from PIL import Image

    factor = max(1, min(image.size) // least)
    side = min(image.size) // factor * factor
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square, rows = Image.new("RGB", (side // factor, side // factor)), 32 * factor
    for row in range(0, side, rows):
        band = image.crop((left, top + row, left + side, top + min(row + rows, side)))
        square.paste(on_white(band).reduce(factor), (0, row // factor))
    square.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    return square


def sheet(images: UInt8[ndarray, "N H H channels"], across: int, side: int) -> bytes:
    """Small images in one WebP, `across` to a row; those larger than `side` pixels are made smaller.

    Images of up to 32 pixels are kept as they are, pixel by pixel.
    """
    from PIL import Image

    side = min(side, images.shape[1])
    page = Image.new("RGB", (across * side, -(-len(images) // across) * side))
    for at, image in enumerate(images):
        small = Image.fromarray(np.asarray(image).repeat(3 // image.shape[2], 2)).resize((side, side))
        page.paste(small, (at % across * side, at // across * side))
    out = io.BytesIO()
    page.save(out, "WEBP", quality=80, method=2, lossless=side <= 32)
    return out.getvalue()


def pixels(data: bytes, size: int) -> UInt8[ndarray, "size size 3"]:
    """The centre square of an image file, decoded."""
    return np.asarray(square(opened(data), size))
