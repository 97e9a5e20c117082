"""create_app: wires settings, artifact and routes into one FastAPI app."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from app import __version__
from app.detection.artifact import Artifact
from app.detection.detector import Detector
from app.judging.aside import Aside
from app.judging.candidate import Candidate
from app.judging.judge import Judge
from app.judging.reload import Reloader, load_detector
from app.keeping.keeper import Keeper
from app.keeping.store import KeptStore
from app.payload.allocator import return_large_blocks
from app.payload.body import BodyReader
from app.payload.places import read_places
from app.routes.api_examples import describe_api
from app.routes.api_page import add_api_page
from app.routes.classifier import Classifier
from app.routes.gate import add_gate_routes
from app.routes.kept import add_kept_routes
from app.routes.operations import add_operations
from app.routes.page import add_page
from app.routes.report import add_report
from app.routes.review import add_review_page
from app.routes.v1 import add_v1_routes
from app.routes.v2 import add_v2_routes
from app.settings import Settings, SettingsError, read_settings
from app.telemetry.logs import configure_logging
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import read_tracing
from app.web.middleware import RequestMiddleware
from app.web.problems import Problem
from app.web.routing import ExactRoutes
from app.web.tokens import TokenCheck, document_tokens

# 16 random characters cannot be guessed at any rate that a network allows.
_SAFE_TOKEN_LENGTH = 16

logger = logging.getLogger(__name__)


class GateApp(FastAPI):
    """FastAPI's routes and documentation; `RequestMiddleware` stands in the place of FastAPI's own middleware."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # In the place of FastAPI's and Starlette's, which do the same in two steps, and mind a root path besides.
        scope["app"] = self
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        routes = ExactRoutes(self.router)
        stack = RequestMiddleware(routes, self.state.tokens, self.state.metrics)
        return stack if self.state.spans is None else self.state.spans.around(stack)

    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            schema = super().openapi()
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas.setdefault("Problem", Problem.model_json_schema(ref_template="#/components/schemas/{model}"))
            document_tokens(schema, self.state.tokens.shortest is not None)
            describe_api(schema, self.state.judge.current_detector())
        return super().openapi()


def create_app(settings: Settings | None = None, detector: Detector | None = None) -> FastAPI:
    """Builds the service.

    Args:
        settings: By default read from the environment.
        detector: What judges; by default it is loaded from `settings.artifact` when the service starts.

    Raises:
        SettingsError: A GATE_* variable is unknown or impossible.
    """
    settings = settings or read_settings()
    configure_logging(settings.log_level, settings.log_format)
    app = GateApp(
        title="imagegate",
        summary="Refuses images that do not belong.",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name an absolute http address, behind whatever proxy
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
        },  # its search for a provider, at every request; app.telemetry.tracing
    )
    _set_state(app, settings, detector)
    _add_routes(app, settings)
    return app


def _set_state(app: FastAPI, settings: Settings, detector: Detector | None) -> None:
    """Sets what routes and the lifespan find in `app.state`."""
    app.state.settings = settings
    app.state.tokens = TokenCheck(settings.tokens, settings.tokens_file, settings.metrics_token)
    app.state.places = read_places(settings)
    app.state.metrics = Metrics()
    app.state.judge = Judge(settings, app.state.metrics)
    app.state.spans = read_tracing()
    app.state.detector = detector
    app.state.bodies = BodyReader(settings, app.state.metrics.input_bytes.observe)
    app.state.classifier = None
    app.state.kept = None
    app.state.on_artifact = None
    app.state.on_reloaded = None


def _add_routes(app: FastAPI, settings: Settings) -> None:
    add_v1_routes(app)
    add_gate_routes(app)
    add_v2_routes(app)
    add_operations(app)
    add_page(app)
    add_api_page(app)
    add_report(app)
    add_kept_routes(app)
    add_review_page(app, keeps=settings.keep_folder is not None)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    judge: Judge = app.state.judge
    return_large_blocks()
    judge.use(app.state.detector or load_detector(settings.artifact, settings.target_false_positive_rate))
    tokens: TokenCheck = app.state.tokens
    if tokens.shortest is not None and tokens.shortest < _SAFE_TOKEN_LENGTH:
        logger.warning("a token of GATE_TOKENS is short", extra={"fields": {"advised_length": _SAFE_TOKEN_LENGTH}})
    aside, candidate = _start_aside(app, settings, judge)
    reloader = Reloader(judge, settings.artifact, settings.target_false_positive_rate)
    reloader.on_artifact = app.state.on_artifact
    reloader.also = [partial(_read_tokens_again, tokens, app.state.metrics)]
    reloader.also += [candidate.load] if candidate is not None else []
    reloader.on_done = app.state.on_reloaded
    reloader.on_hangup()
    artifact = judge.detector.artifact
    fields = {"artifact": artifact.manifest.name, "version": artifact.version, "image_at": str(app.state.places)}
    logger.info("serving", extra={"fields": fields})
    _warn_of_transparency(settings, artifact)
    if settings.classifier_url is not None:
        app.state.classifier = Classifier(settings.classifier_url, settings.classifier_timeout_seconds)
    yield
    if app.state.classifier is not None:
        await app.state.classifier.close()
    judge.close()
    await asyncio.to_thread(aside.close)
    if app.state.spans is not None:
        app.state.spans.close()


def _warn_of_transparency(settings: Settings, artifact: Artifact) -> None:
    """Tells an operator that normal files will be refused, as training found (`training.fitting.other_decoders`)."""
    found = artifact.manifest.evaluation.get("other_decoders", {})
    if settings.classifier_url is not None and settings.forward == "original" and found.get("words"):
        logger.warning(
            "normal files that other decoders read differently, such as transparent ones, will be refused; "
            "GATE_FORWARD=judged lets them pass",
            extra={"fields": {"normal_files": found["images"], "refused": found["refused"]}},
        )


def _read_tokens_again(tokens: TokenCheck, metrics: Metrics) -> str | None:
    """Returns why the new ones are not used, or None if they are."""
    try:
        tokens.read_again()
    except SettingsError as error:
        metrics.reload_failed()
        logger.error("the new tokens are not used", extra={"fields": {"reason": str(error)}})
        return f"the new tokens are not used: {error}"
    return None


def _start_aside(app: FastAPI, settings: Settings, judge: Judge) -> tuple[Aside, Candidate | None]:
    """Starts what becomes of images beside their answers, where the settings ask for any of it."""
    keeper = candidate = None
    if settings.keep_folder is not None:
        app.state.kept = KeptStore(settings.keep_folder, settings.keep_bytes)
        keeper = Keeper(app.state.kept, app.state.metrics.kept)
        if app.state.tokens.shortest is None:
            logger.warning("kept images can be seen by whoever reaches this port; GATE_TOKENS keeps strangers out")
    elif settings.keep_sample:
        logger.warning("GATE_KEEP_SAMPLE keeps nothing without GATE_KEEP_FOLDER")
    if settings.candidate is not None:
        candidate = Candidate(settings.candidate, settings.target_false_positive_rate, app.state.metrics)
    aside = Aside(keeper, settings.keep_sample if keeper else 0.0, candidate)
    if keeper is not None or candidate is not None:
        judge.on_judged = aside.judged
    return aside, candidate
