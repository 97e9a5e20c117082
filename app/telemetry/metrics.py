"""What Prometheus scrapes: one registry for each app, or the files of all workers when several serve."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, multiprocess
from prometheus_client.exposition import choose_encoder
from starlette.types import Scope

from app.detection.detector import Detection, Detector
from app.telemetry.drift import Drift
from app.telemetry.shared_metrics import FOLDER_VARIABLE

_DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RATIOS = (0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 100)
_SIZES = (*(4.0**power for power in range(4, 13)), 2.0**25)  # 256 B to 32 MiB
# Limits how much a single image can change the mean ratio, which Prometheus computes from the sum.
_MOST_RATIO = 1000.0
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_OTHER = "other"


class Metrics:
    """The numbers of one app. Counters may be raised from any thread, all else by the event loop's alone."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody reads
        self.registry = CollectorRegistry()
        self._request_children: dict[tuple[str, str, int], Histogram] = {}
        self._detector: Detector | None = None
        self._drift: Drift | None = None
        self._shown_evidence: tuple[float, ...] = ()
        self._add_requests(self.registry)
        self._add_judgements(self.registry)
        self._add_artifacts(self.registry)

    def _add_requests(self, registry: CollectorRegistry) -> None:
        self._requests = Histogram(
            "gate_http_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ("route", "method", "status"),
            buckets=_DURATIONS,
            registry=registry,
        )
        self._rejected = Counter(
            "gate_rejected",
            "Requests, and images of a batch, that were answered with a problem, by the last part of its type.",
            ("reason",),
            registry=registry,
        )
        self.input_bytes = Histogram("gate_input_bytes", "Bytes of request bodies.", buckets=_SIZES, registry=registry)
        self.classifier_seconds = Histogram(
            "gate_classifier_duration_seconds",
            "From sending a request on to the beginning of the classifier's answer, or to its whole if that is short.",
            buckets=_DURATIONS,
            registry=registry,
        )
        self._forwarded = Counter(
            "gate_forwarded",
            "Requests that went on to the classifier, or were admitted, by verdict; in shadow mode all of them do.",
            ("verdict",),
            registry=registry,
        )
        self._waiting = Gauge(
            "gate_waiting", "Requests in flight or waiting.", registry=registry, multiprocess_mode="livesum"
        )

    def _add_judgements(self, registry: CollectorRegistry) -> None:
        verdicts = Counter("gate_verdicts", "Images judged, by verdict.", ("verdict",), registry=registry)
        self._normal, self._anomaly = verdicts.labels("normal"), verdicts.labels("anomaly")
        self._ratios = Histogram(
            "gate_score_ratio",
            "Score / threshold of each image judged: above 1 is an anomaly. Counted as at most 1000.",
            buckets=_RATIOS,
            registry=registry,
        )
        self._kept = Counter(
            "gate_kept",
            "Images to keep: kept; dropped, when too many waited or it was too large; failed, by a fault of the disk.",
            ("outcome",),
            registry=registry,
        )
        self._candidate_verdicts = Counter(
            "gate_candidate_verdicts",
            "Images judged, by verdict and by that of GATE_CANDIDATE; unjudged when it could not keep up or not load.",
            ("verdict", "candidate_verdict"),
            registry=registry,
        )
        self._from_page = Counter(
            "gate_page_images", "Images that the page sent, which are no evidence of drift.", registry=registry
        )

    def _add_artifacts(self, registry: CollectorRegistry) -> None:
        self._model_info = Gauge(
            "gate_model_info",
            "1 for the artifact that judges now, 0 for those that have.",
            ("name", "version"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._evidence = self._evidence_gauge(
            "gate_drift_evidence_log10",
            "log10 of the evidence that the traffic is odder than the calibration images, refused images included.",
        )
        self._admitted_evidence = self._evidence_gauge(
            "gate_drift_admitted_evidence_log10",
            "log10 of the evidence that the images that are admitted are odder than the calibration images.",
        )
        self._sameness = self._evidence_gauge(
            "gate_drift_sameness_log10",
            "log10 of the evidence that images are more alike than the calibration images, such as one that repeats.",
        )
        self._reload_failures = Counter(
            "gate_reload_failures",
            "Reloads that were refused: what served before still serves.",
            registry=registry,
        )

    def observe(self, scope: Scope, status: int, seconds: float, problem: str) -> None:
        """Counts one request.

        Args:
            scope: Its ASGI scope, after routing.
            status: Of the answer.
            seconds: Until the answer's end.
            problem: The slug of the refusal that answered it, or "".
        """
        template = getattr(scope.get("route"), "path_format", _OTHER)  # no route: an unknown path, or no token
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        key = (template, method, status)
        child = self._request_children.get(key)
        if child is None:
            child = self._request_children[key] = self._requests.labels(template, method, str(status))
        child.observe(seconds)
        if problem:
            self.refused(problem)

    def judged(self, detection: Detection, detector: Detector, for_drift: bool = True) -> None:
        """Counts one image, and bets on it if the artifact that judged it is still in use.

        Args:
            detection: What was found.
            detector: What found it.
            for_drift: False for an image that the page sent; those are counted apart, so that nobody hides behind it.
        """
        (self._anomaly if detection.is_anomaly else self._normal).inc()
        if detection.threshold > 0:
            ratio = detection.score / detection.threshold
            # min() would let NaN through, and a sum with NaN in it is NaN for ever.
            self._ratios.observe(ratio if ratio <= _MOST_RATIO else _MOST_RATIO)
        drift = self._drift
        if not for_drift:
            self._from_page.inc()
        elif drift is not None and detector is self._detector:
            drift.update(detection.score, detection.loss, detection.p_value, detection.is_anomaly)
            self._show_evidence(drift.every.evidence, drift.admitted.evidence, drift.sameness.evidence)

    def forwarded(self, verdict: str) -> None:
        """Counts one request that the gate let pass; `verdict` is that of `app.routes.gate.GateDecision`."""
        self._forwarded.labels(verdict).inc()

    def kept(self, outcome: str) -> None:
        """Counts one image that was to be kept; `outcome` is that of `app.keeping.keeper`."""
        self._kept.labels(outcome).inc()

    def compared(self, verdict: str, candidate_verdict: str) -> None:
        """Counts one image, by verdict and by that of the candidate, "normal", "anomaly" or "unjudged"."""
        self._candidate_verdicts.labels(verdict, candidate_verdict).inc()

    def reload_failed(self) -> None:
        """Counts one refused reload."""
        self._reload_failures.inc()

    def refused(self, reason: str) -> None:
        """Counts one problem; `reason` is the slug of a `Refusal`, or "http-404" and the like."""
        self._rejected.labels(reason).inc()

    def waiting(self, requests: int) -> None:
        """Sets how many requests are in flight or waiting now."""
        self._waiting.set(requests)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Everything, in the format that `accept` asks for, and that format's media type."""
        encode, media_type = choose_encoder(accept)
        registry = self.registry
        if FOLDER_VARIABLE in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return encode(registry), media_type

    def use(self, detector: Detector) -> None:
        """Says which artifact judges from now on; bets on its p-values start anew."""
        if self._detector is not None:
            self._info(self._detector).set(0)
        self._detector = detector
        self._info(detector).set(1)
        self._show_evidence(0.0, 0.0, 0.0)
        self._drift = Drift(detector.artifact.calibration, detector.row_thresholds)

    def _show_evidence(self, *evidence: float) -> None:
        """Sets the gauges of all images, of those admitted, and of sameness; mostly they stay as they are."""
        if evidence == self._shown_evidence:
            return
        self._shown_evidence = evidence
        for gauge, value in zip((self._evidence, self._admitted_evidence, self._sameness), evidence, strict=True):
            gauge.set(value)

    def _info(self, detector: Detector) -> Gauge:
        return self._model_info.labels(detector.artifact.manifest.name, detector.artifact.version)

    def _evidence_gauge(self, name: str, meaning: str) -> Gauge:
        bound = (
            "While nothing has changed, a value of e is reached once in 10^e images of a worker on average, or more "
            "rarely. An image that repeats counts once. The largest of all workers."
        )
        if "sameness" in name:
            bound = bound.replace(" An image that repeats counts once.", "")
        return Gauge(name, f"{meaning} {bound}", registry=self.registry, multiprocess_mode="livemax")
