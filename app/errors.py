"""The refusals: what can be wrong with a request, its HTTP status, and a message that is safe to send.

Code that knows nothing else about HTTP raises these. `app.web.middleware` catches them and answers with an RFC 9457
problem from `app.web.problems`. Any other exception, except the framework's own HTTPException and a client that went
away, is a bug in the service: it is logged with the request id and answered with status 500.
"""

import http
from typing import ClassVar, Self


class Refusal(Exception):
    """A request that is not answered as asked.

    Attributes:
        status: HTTP status. 4xx when an image or a request is at fault, 5xx when the service or the classifier is.
        slug: Stable last part of the problem's `type`, for programs.
        title: The same for every occurrence, for people.
        detail: What is wrong with this one request; never holds a file name or a path from the client.
        more_headers: Header fields that whoever raises it adds to the answer.
    """

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.more_headers: list[tuple[bytes, bytes]] = []

    def at(self, place: str) -> Self:
        """Prefixes the detail with the place in the request that it is about. Changes this refusal and returns it."""
        self.detail = f"{place}: {self.detail}"
        return self

    def headers(self) -> dict[str, str]:
        """Header fields that belong to this refusal."""
        return {}

    def problem(self) -> dict[str, object]:
        """Returns the fields of a problem; `error` repeats `detail` for Open Inference clients."""
        return {
            "type": f"urn:imagegate:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "error": self.detail,
        }


def size_words(size_bytes: int) -> str:
    """Formats a number of bytes for people, in the largest binary unit that gives at least 1: 40 * 2**20 is "40 MB"."""
    size, unit = float(size_bytes), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.3g} {unit}" if size < 999.5 else f"{size:.0f} {unit}"


def count_words(count: int) -> str:
    """A number as people say it: "25 million", "10,000 million", "999,999"."""
    if count < 1_000_000:
        return f"{count:,}"
    return f"{count / 1e6:,.0f} million" if count >= 1e9 else f"{count / 1e6:.4g} million"


class MalformedRequest(Refusal):
    status, slug, title = 400, "malformed-request", "Malformed request"


class Unauthorized(Refusal):
    status, slug, title = 401, "unauthorized", "No token that fits"

    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class BodyTooSlow(Refusal):
    status, slug, title = 408, "body-too-slow", "The body did not arrive in time"

    def headers(self) -> dict[str, str]:
        return {"Connection": "close"}


class TooManyBytes(Refusal):
    status, slug, title = 413, "too-many-bytes", "The body is too large"
    # No "Connection: close": a client that sends everything before it reads would get a reset in place of this answer.


class TooManyPixels(Refusal):
    status, slug, title = 413, "too-many-pixels", "The image has too many pixels"


class UnsupportedFormat(Refusal):
    status, slug, title = 415, "unsupported-format", "Not an accepted image format"


class CompressedBody(Refusal):
    status, slug, title = 415, "compressed-body", "Compressed request bodies are not accepted"


class UndecodableImage(Refusal):
    status, slug, title = 422, "undecodable-image", "The image cannot be decoded"


class InvalidQuery(Refusal):
    status, slug, title = 422, "invalid-query", "A query parameter is not valid"


class RetryLater(Refusal):
    """A refusal that says nothing about the request: the same one may be answered a second later."""

    def headers(self) -> dict[str, str]:
        return {"Retry-After": "1"}


class NotReady(RetryLater):
    status, slug, title = 503, "not-ready", "The service is not ready"


class Overloaded(RetryLater):
    status, slug, title = 503, "overloaded", "More requests in flight than the service accepts"


class DeadlineExceeded(RetryLater):
    status, slug, title = 503, "deadline-exceeded", "The request took too long"


class CannotJudgeNow(RetryLater):
    """Replaces every 5xx refusal on /v1/authz: Envoy takes a 5xx for a failure of the gate, and may then admit."""

    status, slug, title = 429, "cannot-judge-now", "The request cannot be judged at this moment"


class GateFailed(Refusal):
    """A fault of the service."""

    status, slug, title = 500, "internal-error", "Internal error"

    def __init__(self, request_id: str) -> None:
        # The cause is logged, and is not for clients.
        super().__init__(f"The service failed on this request; its log has the cause under request id {request_id}.")


class HttpRefusal(Refusal):
    """What the web framework itself refuses: an unknown route, a method that a route does not have."""

    def __init__(self, status: int, detail: str, headers: dict[str, str]) -> None:
        """
        Args:
            status: HTTP status.
            detail: What is wrong.
            headers: Such as `Allow`.
        """
        super().__init__(detail)
        # Not class variables here: the framework chooses the status.
        self.status = status  # type: ignore[misc]
        self.slug = f"http-{status}"  # type: ignore[misc]
        self.title = http.HTTPStatus(status).phrase  # type: ignore[misc]
        self._headers = headers

    def headers(self) -> dict[str, str]:
        return self._headers


class AnomalousImage(Refusal):
    """An image that does not belong, on the way to a classifier.

    Attributes:
        prediction: What /v1/predict says of it, without the reconstruction.
        image: Which of the request's images it is, from 0; of several anomalies the oddest.
        images: How many the request has.
    """

    status, slug, title = 422, "anomalous-image", "The image does not belong"

    def __init__(
        self, prediction: dict[str, object], image: int, images: int, place: str = "", by_another_decoder: bool = False
    ) -> None:
        which = "The image" if images == 1 else f"Image {image + 1} of {images}"
        super().__init__(f"{which} is not like those that the classifier is made for.")
        if by_another_decoder:
            self.detail += (
                " It is only as some decoders read it: send it without transparency, with one frame and 8 bits, or set "
                "GATE_FORWARD=judged, so that the classifier gets what was judged."
            )
        if place and images > 1:
            self.at(place)
        self.prediction = prediction
        self.image = image
        self.images = images

    def problem(self) -> dict[str, object]:
        return {**super().problem(), "prediction": self.prediction, "image": self.image}


class NotAdmitted(AnomalousImage):
    """The same for /v1/authz."""

    status = 403


class PartialBody(Refusal):
    status, slug, title = 403, "partial-body", "The body was cut off before it reached the gate"


class NoClassifier(Refusal):
    status, slug, title = 404, "no-classifier", "There is no classifier behind this service"


class UnknownModel(Refusal):
    status, slug, title = 404, "unknown-model", "There is no such model"


class NotKept(Refusal):
    status, slug, title = 404, "not-kept", "There is no such kept image"


class KeepingFailed(RetryLater):
    status, slug, title = 503, "keeping-failed", "The folder of kept images cannot be used"


class ClassifierDown(Refusal):
    status, slug, title = 502, "classifier-down", "The classifier does not answer"


class ClassifierTooSlow(Refusal):
    status, slug, title = 504, "classifier-too-slow", "The classifier takes too long"


class ArtifactError(Exception):
    """An artifact folder that cannot be trusted: names the file and what is wrong with it. Stops the start."""


class PromiseError(ArtifactError):
    """A false-positive rate that so few calibration images cannot promise; the message says how many it takes."""


class ScoringError(Exception):
    """An offline command ends early; the message says why, and how far it came."""
