"""A proxy as one writes it in an evening, the yardstick: python plain.py PORT PROVIDER_URL."""

import json
import logging
import sys
import time
from collections.abc import AsyncIterator

import aiohttp
import backoff
from aiohttp import web
from aiohttp.typedefs import Handler
from aioprometheus.collectors import Counter, Histogram, Registry
from aioprometheus.renderer import render

SESSION = web.AppKey("session", aiohttp.ClientSession)
PROVIDER = web.AppKey("provider", str)
REGISTRY = web.AppKey("registry", Registry)
REQUESTS = web.AppKey("requests", Counter)
SECONDS = web.AppKey("seconds", Histogram)
TOKENS = web.AppKey("tokens", Counter)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (aiohttp.ClientError, json.JSONDecodeError) as error:
        return web.json_response({"error": {"message": str(error)}}, status=502)


@web.middleware
async def metrics(request: web.Request, handler: Handler) -> web.StreamResponse:
    started = time.perf_counter()
    response = await handler(request)
    labels = {"provider": "bench", "path": request.path, "status": str(response.status)}
    request.app[REQUESTS].inc(labels)
    request.app[SECONDS].observe(labels, time.perf_counter() - started)
    return response


@web.middleware
async def auth(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path.startswith("/v1/") and "authorization" not in request.headers:
        return web.json_response({"error": {"message": "no key"}}, status=401)
    return await handler(request)


def count(app: web.Application, answer: dict[str, object]) -> None:
    usage = answer.get("usage")
    if isinstance(usage, dict):
        labels = {"provider": "bench", "model": str(answer["model"])}
        app[TOKENS].add(labels, usage["total_tokens"])


@backoff.on_exception(backoff.expo, aiohttp.ClientConnectionError, max_tries=3)
async def ask(app: web.Application, body: dict[str, object]) -> aiohttp.ClientResponse:
    headers = {"authorization": "Bearer bench"}
    url = f"{app[PROVIDER]}/v1/chat/completions"
    return await app[SESSION].post(url, json=body, headers=headers)


async def chat(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    async with await ask(request.app, body) as answer:
        if not body.get("stream"):
            data = await answer.json()
            count(request.app, data)
            return web.json_response(data, status=answer.status)
        response = web.StreamResponse(status=answer.status)
        response.content_type = "text/event-stream"
        await response.prepare(request)
        async for line in answer.content:
            if line.startswith(b"data: {"):
                count(request.app, json.loads(line[6:]))
            await response.write(line)
        await response.write_eof()
        return response


async def exposition(request: web.Request) -> web.Response:
    content, headers = render(request.app[REGISTRY], request.headers.getall("accept", []))
    return web.Response(body=content, headers=headers)


async def session(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as app[SESSION]:
        yield


def main() -> None:
    logging.basicConfig(level=logging.INFO)  # with it, aiohttp writes its access log
    app = web.Application(middlewares=[errors, metrics, auth], client_max_size=32 << 20)
    app[PROVIDER] = sys.argv[2]
    app[REGISTRY] = registry = Registry()
    app[REQUESTS] = Counter("requests_total", "Requests.", registry=registry)
    app[SECONDS] = Histogram("request_seconds", "Time.", registry=registry)
    app[TOKENS] = Counter("tokens_total", "Tokens.", registry=registry)
    app.cleanup_ctx.append(session)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/metrics", exposition)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
