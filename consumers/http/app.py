"""Everything that HTTP answers, as one ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from ledger.errors import LedgerError
from ledger.postgres.rows import read_origin
from ledger.postgres.sequencing import read_published

from .assessing import AssessEndpoint
from .batch import Batch
from .bulk import Bulk
from .database import Database
from .departments import Departments, Intake
from .limits import Limits
from .metrics import METRICS_PATH, Metrics
from .openapi import serve_document
from .operators import Operators
from .page.assets import PREFIX as PAGE_PREFIX
from .page.assets import Assets
from .page.endpoint import AssetEndpoint, Page
from .page.operating import OPERATOR_PATH, OperatorPage
from .page.service import PLOT_PATH, SAVINGS_PATH, SERVICE_PATH, ServicePage
from .page.sheet_key import SheetKey
from .page.sheets import Sheets
from .problems import on_broken_body, on_crash, on_http_error, on_ledger_error
from .questions import FRESH, Answering, Questions
from .rates import Rates
from .settings import LOG_PREFIX, Settings
from .standing import Watch
from .status_lists import StatusListApp
from .tiles import TileApp
from .trusting import TrustFile

LISTS_PREFIX = "/v1/status-lists"


def is_rated(path: str) -> bool:
    """Whether each caller may ask for this only so often: for answers, not for the log's tiles."""
    return path in ("/", "/sheet") or (
        path.startswith("/v1/") and not path.startswith(LISTS_PREFIX)
    )


def build_app(settings: Settings) -> Starlette:
    """The application; it connects to PostgreSQL when first asked."""
    database = Database(settings.postgres, settings.connections)
    trust = TrustFile(settings.trust)
    answering = Answering(database, trust)
    questions = Questions(database, answering)
    intake = Intake(settings.kafka)
    departments = Departments(database, intake)
    assets = Assets()
    sheet_key = SheetKey(settings.sheet_key, trust)
    page = Page(database, trust, assets, sheet_key)
    service = ServicePage(database, trust, page)
    operators = Operators(settings.operator_token)
    watch = Watch(database, settings.kafka, settings.data)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        watch.close()
        intake.close()
        database.close()

    async def healthz(_: Request) -> Response:
        """This process answers."""
        return JSONResponse({"status": "ok"}, headers=FRESH)

    async def readyz(_: Request) -> Response:
        """The database answers and holds a ledger, published or not yet."""
        origin = await database.read(read_origin)
        published = await database.read(read_published)
        size = None if published is None else published[0]
        return JSONResponse({"status": "ok", "origin": origin, "tree_size": size}, headers=FRESH)

    app = Starlette(
        routes=[  # tried in this order
            Route("/v1/certificates", questions.certificates),
            Route("/v1/evidence", questions.evidence),
            Route("/v1/batch", Batch(answering).post, methods=["POST"]),
            Route("/", page.get),
            Route("/many", page.many),
            Route("/sheet", Sheets(database, trust, sheet_key, page).get),
            Route("/trust.json", page.trust),
            Route(SERVICE_PATH, service.get),
            Route(SERVICE_PATH, service.post, methods=["POST"]),
            Route(SAVINGS_PATH, service.savings),
            Route(PLOT_PATH, service.plot),
            Route(f"{PAGE_PREFIX}/{{version}}/{{path:path}}", AssetEndpoint(assets).get),
            Route(METRICS_PATH, Metrics(watch, operators).get),
            Route(OPERATOR_PATH, OperatorPage(watch, operators, page).get),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/v1/assess", AssessEndpoint(database, trust).post, methods=["POST"]),
            Route("/openapi.json", serve_document),
            Route("/asyncapi.json", serve_document),
            Route("/docs", serve_document),
            Route("/docs.css", serve_document),
            Route("/v1/history", questions.history),
            Route("/v1/bulk", Bulk(answering).post, methods=["POST"]),
            Route("/v1/lanes", departments.lanes),
            Route("/v1/receipts", departments.receipts),
            Route("/v1/bundles", departments.bundles, methods=["POST"]),
            Mount(LOG_PREFIX, TileApp(database, LOG_PREFIX)),
            Mount(LISTS_PREFIX, StatusListApp(database, LISTS_PREFIX)),
        ],
        middleware=[Middleware(Limits), Middleware(Rates, settings.rate, is_rated)],
        exception_handlers={
            HTTPException: on_http_error,
            LedgerError: on_ledger_error,
            ClientDisconnect: on_broken_body,
            Exception: on_crash,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app
