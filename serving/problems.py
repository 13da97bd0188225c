"""What goes wrong with a request, as one JSON form that people and the `openai` client can read.

``{"error": {"message": sentence, "type": word, "param": path of the field or null, "code": word}}``, beside
which `near` holds spellings and `details` the fields that are wrong. No input is repeated beyond a word, and
no stack trace leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving.words import NoSuchWordError


class RefusedError(Exception):
    """A request that cannot be answered, with the sentence to answer instead; `param` is the path of the
    field that is wrong."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}


class FieldError(BaseModel):
    """One field that is wrong: its path (`body.length`, `query.n`) and why."""

    path: str
    message: str


class Error(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str
    near: list[str] | None = Field(default=None, description="Near spellings of an unknown word.")
    details: list[FieldError] | None = Field(default=None, description="Fields that are wrong, at most 100.")


class ErrorAnswer(BaseModel):
    """The body of every answer that is not 2xx, but for the plain text of Serve's own 408."""

    error: Error


# For the OpenAPI document: what any route may answer.
RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorAnswer, "description": "The server wants a key that was not shown."},
    404: {"model": ErrorAnswer, "description": "No such word, or no model of this kind."},
    408: {"description": "It took longer than the server allows. This comes from Ray Serve, as plain text."},
    413: {"model": ErrorAnswer, "description": "The body is larger than the limit."},
    422: {"model": ErrorAnswer, "description": "A field is wrong; the path says which."},
    503: {"model": ErrorAnswer, "description": "Not ready or too busy; try again after Retry-After seconds."},
}
STATE_RESPONSES: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorAnswer, "description": "The state belongs to another version of the model."}
}
# A body of a megabyte has room for 60,000 fields that nobody knows, and for one with a name as long.
MOST_DETAILS = 100
PART_CHARACTERS = 80  # of a field's name, which clients choose
BROKEN = "There was an error parsing the body"  # what FastAPI says of JSON that Python gives up at
_CODES = {401: "no_key", 404: "no_such_route", 405: "method_not_allowed", 413: "too_large"}


def answer(
    request: Request, status: int, error: Error, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer for an error; its code is left on the request for the metrics."""
    request.state.error = error.code
    return JSONResponse(
        {"error": error.model_dump(exclude={"near", "details"})
         | error.model_dump(include={"near", "details"}, exclude_none=True)},
        status_code=status,
        headers=dict(headers or {}),
    )  # fmt: skip


def install(app: FastAPI) -> None:
    """Makes the application answer every error in the one form."""

    @app.exception_handler(RefusedError)
    async def _problem(request: Request, problem: RefusedError) -> JSONResponse:
        kind = _type(problem.status)
        error = Error(message=problem.message, type=kind, param=problem.param, code=problem.code)
        return answer(request, problem.status, error, problem.headers)

    @app.exception_handler(NoSuchWordError)
    async def _unknown(request: Request, unknown: NoSuchWordError) -> JSONResponse:
        error = Error(message=str(unknown), type=_type(404), code="unknown_word", near=unknown.near)
        return answer(request, 404, error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, invalid: RequestValidationError) -> JSONResponse:
        details = [_field(each) for each in invalid.errors()[:MOST_DETAILS]]
        first = details[0]
        error = Error(
            message=f"{first.path}: {first.message}.",
            type=_type(422),
            param=first.path,
            code="invalid",
            details=details,
        )
        return answer(request, 422, error)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, raised: HTTPException) -> JSONResponse:
        if raised.status_code == 400 and raised.detail == BROKEN:
            return _unread(request, raised.__cause__)
        code = _CODES.get(raised.status_code, f"http_{raised.status_code}")
        message = str(raised.detail)
        if raised.status_code == 404:
            message = "There is no such route; /docs lists the routes there are."
        error = Error(message=message, type=_type(raised.status_code), code=code)
        return answer(request, raised.status_code, error, raised.headers)

    @app.exception_handler(Exception)
    async def _defect(request: Request, raised: Exception) -> JSONResponse:
        error = Error(
            message="The server failed at this request; its log says why.", type=_type(500), code="internal"
        )
        return answer(request, 500, error)


def _type(status: int) -> str:
    return "server_error" if status >= 500 else "invalid_request_error"


def _unread(request: Request, cause: BaseException | None) -> JSONResponse:
    """The answer to a body that did not come whole, or at which Python's reader of JSON gave up."""
    if isinstance(cause, ClientDisconnect):
        error = Error(message="The body did not come whole.", type=_type(408), code="unfinished")
        return answer(request, 408, error)
    if isinstance(cause, RecursionError):
        why = "it is nested too deeply"
    elif isinstance(cause, UnicodeDecodeError):
        why = "it is not in UTF-8"
    else:
        why = "a number in it has too many digits"
    error = Error(
        message=f"body: It cannot be read as JSON: {why}.", type=_type(422), param="body", code="invalid"
    )
    return answer(request, 422, error)


def _field(error: Mapping[str, Any]) -> FieldError:
    """What is wrong with a field, by what pydantic says."""
    location, message = error["loc"], error["msg"]
    if error["type"] == "json_invalid":  # located by the offset of the fault, which is no field
        why = error.get("ctx", {}).get("error", message)
        return FieldError(path="body", message=f"It is no JSON: {why}, at character {location[-1]}")
    if location == ("body",) and isinstance(error.get("input"), bytes):  # FastAPI did not read it
        message = "It was not sent as JSON; send it with the header Content-Type: application/json"
    parts = (str(part)[:PART_CHARACTERS] for part in location)
    return FieldError(path=".".join(parts) or "body", message=message)
