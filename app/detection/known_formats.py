"""Recognises file formats by their first bytes, and words the refusal of formats that are not accepted."""

import re

from app.settings import ACCEPTED_FORMATS, OPTIONAL_FORMATS

_SIGNATURES = (
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("BMP", re.compile(rb"BM")),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("TIFF", re.compile(rb"II\*\0|MM\0\*")),
    ("BigTIFF", re.compile(rb"II\+\0|MM\0\+")),
    # Looks at the major brand, the version and up to seven compatible brands. AVIF comes before HEIC, because the
    # general brand mif1 occurs in both.
    ("AVIF", re.compile(rb"....ftyp(?:.{4}){0,8}?(?:avif|avis)", re.DOTALL)),
    ("HEIC", re.compile(rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)),
    ("JPEG XL", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("JPEG 2000", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51")),
    ("SVG", re.compile(rb"\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,200}?-->\s*)?<svg\b", re.DOTALL | re.IGNORECASE)),
    ("PDF", re.compile(rb"%PDF-")),
    ("Photoshop", re.compile(rb"8BPS")),
    ("icon", re.compile(rb"\x00\x00\x01\x00")),
    ("HTML", re.compile(rb"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)),
    ("JSON", re.compile(rb"\s*(?:\{\s*[\"}]|\[\s*[\"{\[\]0-9-])")),
    ("base64 text", re.compile(rb"data:image/|iVBORw0KGgo|/9j/4|R0lGODlh|UklGR[A-P]")),
)
_LOOKED_AT = 4096
_ADVICE = {
    "HEIC": "Save it as JPEG; an iPhone takes JPEGs with Settings > Camera > Formats > Most Compatible.",
    "SVG": "Export it as PNG.",
    "PDF": "Export the page as PNG.",
    "HTML": "Send the image itself, not the page or the error that a server sent in its place.",
    "JSON": "Send the image file itself.",
    "base64 text": "Decode it first, and send the bytes.",
}


def known_format(data: bytes) -> str | None:
    """The format's name, or None if the first bytes are of none that is known here."""
    beginning = data[:_LOOKED_AT]  # some signatures skip blanks, of which a body may have millions
    return next((name for name, signature in _SIGNATURES if signature.match(beginning)), None)


def refusal_words(name: str | None, accepted: tuple[str, ...], is_empty: bool = False) -> str:
    """Returns a message that says why a file is not accepted, and what its sender can do.

    Args:
        name: The file's format as returned by `known_format`.
        accepted: The names of the accepted formats.
        is_empty: Whether there are no bytes at all.
    """
    if name is None and is_empty:
        return "The file is empty."
    if name is None:
        return f"The file is not one of {', '.join(accepted)}, judged by its first bytes."
    advice = _ADVICE.get(name, "Save it as PNG or JPEG.")
    if name in (*ACCEPTED_FORMATS, *OPTIONAL_FORMATS):
        advice += " (The operator decides which formats are accepted: GATE_FORMATS.)"
    return f"This is {_WITH_ARTICLE.get(name, f'a {name}')} file, which is not one of {', '.join(accepted)}. {advice}"


_WITH_ARTICLE = {"HEIC": "an HEIC", "AVIF": "an AVIF", "SVG": "an SVG", "icon": "an icon", "HTML": "an HTML"}
