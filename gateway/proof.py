"""`GET /proof?nonce=…`: the proof that this is the server that knows the owner's token (see
`terminalpp.types.proof`). Needs no token: that is what it is for."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from gateway.state import app_state
from terminalpp.types import proof
from terminalpp.types.errors import InvalidInput

router = APIRouter()


@router.get(proof.PATH, include_in_schema=False)
async def prove(request: Request) -> Response:
    """`{"proof": …}` for a nonce of 64 hexadecimal digits and the address at which this request came in."""
    nonce = request.query_params.get("nonce", "")
    if not proof.NONCE.fullmatch(nonce):
        raise InvalidInput("nonce must be 64 hexadecimal digits")
    host, port = request.scope.get("server") or ("", 0)  # a Unix socket has neither
    return JSONResponse({"proof": proof.proof(app_state(request).owner_digest, nonce, host, port or 0)})
