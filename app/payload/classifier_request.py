"""Parses a request to a classifier: finds its images, and keeps what is needed to write the request again."""

from dataclasses import dataclass
from urllib.parse import unquote_plus

from starlette.datastructures import Headers

from app.payload.declared_images import find_declared
from app.payload.found_images import Images
from app.payload.parsed_body import ParsedBody, UrlForm, check_body_writable, parse_request_body
from app.payload.places import Places
from app.payload.request_images import find_images


@dataclass(frozen=True, slots=True)
class ClassifierRequest:
    """A parsed request.

    Attributes:
        images: The images in it.
        query: The parsed query.
        body: The parsed body; None if it is empty.
    """

    images: Images
    query: UrlForm
    body: ParsedBody | None


def take_apart(
    places: Places, headers: Headers, path: bytes, query: bytes, body: bytes, judges_bytes: bool = True
) -> ClassifierRequest:
    """Finds the images of a request.

    Args:
        places: The settings GATE_IMAGE_AT and GATE_UNJUDGED.
        headers: The headers that the classifier will get.
        path: The path that the classifier will get, percent-encoded.
        query: The query, without the question mark.
        body: The whole body; may be empty.
        judges_bytes: Whether the classifier gets the image files unchanged; then data after their end is refused.
            Otherwise the gate writes the request anew, and JSON that cannot be written again is refused.

    Raises:
        Refusal: It is broken, may be read in two ways, or holds something that cannot be judged; 4xx always.
    """
    fields = _parse_query(query)
    parsed = parse_request_body(headers, body) if body else None
    if places.declared and parsed is not None:
        images = find_declared(places, fields, parsed)
    else:
        images = find_images(path.decode("latin-1"), fields, parsed)
    if judges_bytes:
        images.check_ends(places.formats)
    elif parsed is not None:
        check_body_writable(parsed)
    return ClassifierRequest(images, fields, parsed)


def _parse_query(query: bytes) -> UrlForm:
    pairs = [field.partition("=") for field in query.decode("latin-1").split("&") if field]
    return UrlForm([(unquote_plus(name, "latin-1"), unquote_plus(value, "latin-1")) for name, _, value in pairs])
