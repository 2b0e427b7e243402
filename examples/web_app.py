"""A web service that sends commands to charging stations: FastAPI, and the bridge's client.

It shows a client that is opened in the app's lifespan, typed commands and answers, and which HTTP
status says what became of a command. The stations' gateway runs beside it:

    pip install fastapi uvicorn
    export DTBRIDGE_AMQP_URL=amqp://user:password@broker
    dtbridge gateway --listen :9000
    uvicorn examples.web_app:app
    curl -X PUT localhost:8000/stations/CP001/display --json '{"text": "Hello", "seconds": 30}'

| status | what became of the command |
|---|---|
| 200 | the station accepted it |
| 404 | no gateway holds the station |
| 409 | the station said no, and the answer says why |
| 422 | it is no command: FastAPI has looked at it |
| 502 | the station answered with an error, or with nonsense |
| 503 | there is no broker: nothing was sent |
| 504 | no answer in time, or the station was lost meanwhile: it may have obeyed all the same |
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from bridge import (
    BrokerUnreachable,
    CallError,
    Client,
    DataTransferRequest,
    NoAnswer,
    NotAccepted,
    StationOffline,
    UnexpectedAnswer,
)

PATIENCE = float(os.environ.get("COMMAND_TIMEOUT", "10"))
"""Seconds that a command may take."""


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Client]]:
    """One client for the whole service. It connects with the first command, and again when lost."""
    url = os.environ["DTBRIDGE_AMQP_URL"]
    async with Client(url, timeout=PATIENCE, connect_timeout=PATIENCE / 2) as client:
        yield {"stations": client}


def client_of(request: Request) -> Client:
    client: Client = request.state.stations
    return client


app = FastAPI(title="Displays of charging stations", lifespan=lifespan)
Stations = Annotated[Client, Depends(client_of)]
StationId = Annotated[str, Path(min_length=1, max_length=255)]


class Text(BaseModel):
    """A text for the display."""

    text: str = Field(max_length=200)
    seconds: int = Field(default=60, gt=0, le=3600)


class Shown(msgspec.Struct):
    """What the station answers when it accepts."""

    lines: int
    """How many lines of the display the text takes."""


class Display(BaseModel):
    """What the caller is told."""

    station: str
    lines: int


@app.put("/stations/{station_id}/display")
async def show_text(station_id: StationId, text: Text, stations: Stations) -> Display:
    command = DataTransferRequest("com.acme", "ShowText", text.model_dump())
    answer = await stations.send_to_station(station_id, command, answer=Shown)
    if answer.status != "Accepted":
        reason = answer.status_info.reason_code if answer.status_info else None
        raise HTTPException(409, {"status": answer.status, "reason": reason})
    return Display(station=station_id, lines=answer.data.lines)


# ---- what became of a command that has no answer ----


def says(status: int, text: str) -> JSONResponse:
    return JSONResponse({"detail": text}, status)


@app.exception_handler(StationOffline)
async def offline(_: Request, error: StationOffline) -> JSONResponse:
    return says(504 if error.sent else 404, str(error))


@app.exception_handler(NoAnswer)
async def unanswered(*_: object) -> JSONResponse:
    return says(504, "the station has not answered in time")


@app.exception_handler(CallError)
async def refused(_: Request, error: CallError) -> JSONResponse:
    return says(502, f"the station answered {error.code}: {error.description}")


@app.exception_handler(UnexpectedAnswer)
async def not_understood(*_: object) -> JSONResponse:
    return says(502, "the station's answer is not understood")


@app.exception_handler(BrokerUnreachable)
@app.exception_handler(NotAccepted)
async def no_broker(*_: object) -> JSONResponse:
    return says(503, "commands cannot be sent at the moment")
