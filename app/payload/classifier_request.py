"""One request on its way to a classifier, taken apart: what is judged, and what it takes to write it again."""

from dataclasses import dataclass
from urllib.parse import unquote_plus

from starlette.datastructures import Headers

from app.payload.declared_images import find_declared
from app.payload.found_images import Images
from app.payload.parsed_body import ParsedBody, UrlForm, parse_request_body
from app.payload.places import Places
from app.payload.request_images import find_images


@dataclass(frozen=True, slots=True)
class ClassifierRequest:
    """A request whose images are found.

    Attributes:
        body: None if it is empty.
    """

    images: Images
    query: UrlForm
    body: ParsedBody | None


def take_apart(
    places: Places, headers: Headers, path: bytes, query: bytes, body: bytes, judges_bytes: bool = True
) -> ClassifierRequest:
    """Finds the images of a request.

    Args:
        places: Where they are.
        headers: Those that the classifier will see.
        path: That the classifier will see, percent-encoded.
        query: Without the question mark.
        body: Whole; may be empty.
        judges_bytes: Whether the classifier gets the bytes of the images as they are.

    Raises:
        Refusal: It is broken, may be read in two ways, or holds something that cannot be judged; 4xx always.
    """
    fields = _parse_query(query)
    parsed = parse_request_body(headers, body) if body else None
    if places.declared and parsed is not None:
        images = find_declared(places, fields, parsed)
    else:
        images = find_images(path.decode("latin-1"), fields, parsed)
    images.check_count()
    if judges_bytes:
        images.check_ends()
    return ClassifierRequest(images, fields, parsed)


def _parse_query(query: bytes) -> UrlForm:
    pairs = [field.partition("=") for field in query.decode("latin-1").split("&") if field]
    return UrlForm([(unquote_plus(name, "latin-1"), unquote_plus(value, "latin-1")) for name, _, value in pairs])
