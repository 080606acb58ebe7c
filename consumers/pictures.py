"""QR codes of sheets in pictures: photos, scans, screenshots."""

from __future__ import annotations

from pathlib import Path

import zxingcpp
from PIL import Image, UnidentifiedImageError

from ledger.errors import Malformed
from ledger.sheet import PREFIX

MAX_BYTES = 32 * 1024 * 1024
MAX_PIXELS = 64_000_000


def read_sheet(path: Path) -> str:
    """The text of the one sheet's QR code in a picture; Malformed `usage` where there is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Malformed("usage", f"{path}: a picture of at most {MAX_BYTES >> 20} MB is needed")
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Malformed("usage", f"{path}: the picture has too many pixels")
            grey = image.convert("L")
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as err:
        raise Malformed("usage", f"{path} is no picture that can be read") from err
    except OSError as err:
        reason = err.strerror or "it is no whole picture"
        raise Malformed("usage", f"no picture can be read at {str(path)!r}: {reason}") from err
    codes = zxingcpp.read_barcodes(grey, formats=zxingcpp.barcode_formats_from_str("QRCode"))
    texts = {code.text for code in codes if code.text.startswith(PREFIX)}
    if len(texts) > 1:
        raise Malformed("usage", f"{path} shows {len(texts)} sheets: one picture, one sheet")
    if not texts:
        other = " (it shows QR codes of others)" if codes else ""
        raise Malformed("usage", f"no sheet's QR code was found in {path}{other}")
    return texts.pop()
