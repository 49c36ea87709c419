"""The routes: the page itself, its stream of events, and single requests."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from common.errors import ConfigError
from dashboard import results
from dashboard.access import Access
from dashboard.catalogue import Catalogue
from dashboard.details import curves, details, log_tail
from dashboard.feed import Feed, Message
from dashboard.files import TYPES, inside
from dashboard.source import logs

STATIC = Path(__file__).parent / "static"
SILENCE_S = 15.0
"""How often an idle stream sends a comment, so that proxies do not close it."""


class Dashboard:
    """The application, and what its requests share.

    Args:
      folder: holds the runs.
      results: holds the reports; may be missing.
      url: of a Redis server whose runs are shown too.

    Attributes:
      closing: set when the server stops, which ends all streams.
    """

    def __init__(self, folder: Path, results: Path, url: str | None = None) -> None:
        self.catalogue = Catalogue(folder, url)
        self.results = results.resolve()
        self.feeds: dict[str, Feed] = {}
        self.closing = asyncio.Event()

    def app(self, token: str | None = None) -> Starlette:
        """Builds the application; without a token it answers only this machine."""
        routes = [
            Route("/", _page),
            Route("/events", self._events),
            Route("/api/curves", self._curves),
            Route("/api/run", self._run),
            Route("/api/log", self._log),
            Route("/api/results", self._results),
            Route("/api/report", self._report),
            Route("/files/runs/{path:path}", self._run_file),
            Route("/files/results/{path:path}", self._result_file),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(Access, token=token)],
            exception_handlers={ConfigError: _refused, HTTPException: _refused},
        )

    async def _events(self, request: Request) -> Response:
        """Streams the table of runs and, with `?run=ID`, the state of one run."""
        sources: list[AsyncGenerator[Message, None]] = [self.catalogue.messages()]
        if name := request.query_params.get("run"):
            sources.append((await self._feed(name)).messages())
        stream = _stream(sources, self.closing)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def _feed(self, name: str) -> Feed:
        if name not in self.catalogue.addresses:
            await self.catalogue.read()
        if name not in self.catalogue.addresses:
            raise HTTPException(404, f"no Redis server is known that has run {name!r}")
        if name not in self.feeds:
            self.feeds = {key: other for key, other in self.feeds.items() if other.watchers}
            self.feeds[name] = Feed(lambda: self.catalogue.addresses[name], self.catalogue.folders.get(name))
        return self.feeds[name]

    async def _folder(self, request: Request) -> tuple[str, Path]:
        """Looks up the requested run among the known ones; a request never supplies a path."""
        name = request.query_params.get("run", "")
        if name not in self.catalogue.folders:
            await self.catalogue.read()
        if name not in self.catalogue.folders:
            raise HTTPException(404, f"no run {name!r} in {self.catalogue.root}")
        return name, self.catalogue.folders[name]

    async def _curves(self, request: Request) -> Response:
        return _json(await asyncio.to_thread(curves, (await self._folder(request))[1]))

    async def _run(self, request: Request) -> Response:
        return _json(await asyncio.to_thread(details, *await self._folder(request)))

    async def _log(self, request: Request) -> Response:
        _, folder = await self._folder(request)
        path = logs(folder).get(request.query_params.get("name", ""))
        if path is None or not path.resolve().is_relative_to(self.catalogue.root):
            raise HTTPException(404, f"this run has no such log; it has {', '.join(logs(folder)) or 'none'}")
        return PlainTextResponse(await asyncio.to_thread(log_tail, path), headers={"Cache-Control": "no-store"})

    async def _results(self, request: Request) -> Response:
        del request
        found = await asyncio.to_thread(results.folders, self.results)
        return _json({"root": str(self.results), "folders": found})

    async def _report(self, request: Request) -> Response:
        name = request.query_params.get("folder", "")
        return _json(await asyncio.to_thread(results.report, self.results, name))

    async def _run_file(self, request: Request) -> Response:
        return _file(self.catalogue.root, request.path_params["path"])

    async def _result_file(self, request: Request) -> Response:
        return _file(self.results, request.path_params["path"])


async def _stream(sources: list[AsyncGenerator[Message, None]], closing: asyncio.Event) -> AsyncGenerator[str, None]:
    """Merges several sources of messages into one stream of server-sent events, no faster than the client reads."""
    queue: asyncio.Queue[Message] = asyncio.Queue(maxsize=1)

    async def hand_over(messages: AsyncGenerator[Message, None]) -> None:
        async with aclosing(messages):
            async for message in messages:
                await queue.put(message)

    ending = asyncio.create_task(closing.wait())
    following = asyncio.create_task(queue.get())
    tasks: list[asyncio.Task[Any]] = [ending, following]
    tasks += [asyncio.create_task(hand_over(messages)) for messages in sources]
    try:
        yield "retry: 2000\n\n"
        while not ending.done():
            await asyncio.wait({ending, following}, timeout=SILENCE_S, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                name, data = following.result()
                yield f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'), allow_nan=False)}\n\n"
                tasks[1] = following = asyncio.create_task(queue.get())
            elif not ending.done():
                yield ": still here\n\n"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _page(request: Request) -> Response:
    del request
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def _refused(request: Request, error: Exception) -> Response:
    del request
    status = error.status_code if isinstance(error, HTTPException) else 404
    return PlainTextResponse(f"{error.detail if isinstance(error, HTTPException) else error}\n", status)


def _file(root: Path, path: str) -> Response:
    found = inside(root, path)
    if found is None:
        raise HTTPException(404, "no such picture or film here")
    return FileResponse(found, media_type=TYPES[found.suffix], headers={"Cache-Control": "no-cache"})


def _json(data: Any) -> Response:
    return JSONResponse(data, headers={"Cache-Control": "no-store"})
