"""The page shows every message and every type, and loads nothing."""

import re
from html.parser import HTMLParser

import msgspec

from bridge import Call, Router
from bridge.dialects.names import Names
from bridge.schema.asyncapi import document
from bridge.schema.messages import vendor_messages
from bridge.schema.page import page
from tests.unit.schema import workshop


class Reader(HTMLParser):
    """What is in a page. Checks that what is opened is closed again."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        for name, value in attrs:
            assert name not in {"src", "onclick", "style"}
            if name == "id":
                self.ids.append(str(value))
            if name == "href":
                self.links.append(str(value))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inline = self.open and self.open[-1] == "code"
        self.words += data if inline else f" {data}"


def shown(*routers: Router) -> Reader:
    messages = vendor_messages(routers, workshop.to_stations)
    return Reader(page(document(messages, title="<Acme>", version="1", names=Names())))


PAGE = shown(workshop.router)
WORDS = re.sub(r"\s+([,.]?)", r" \1", PAGE.words).replace(" ,", ",").replace(" .", ".")


def test_every_message_is_shown_with_its_fields_and_what_is_written_about_them() -> None:
    for words in (
        "com.Acme: GetTariff Says what a kWh costs.",
        "Exchange datatransfer, routing key com.acme, queue datatransfer.com.acme.",
        "connectorId integer ≥ 1 As it is written on the station.",
        "kind optional",
        "energyPrice number Per kWh.",
        "com.Acme: without a messageId",
        "com.Acme: any other message",
        "com.acme: ShowText (to a station) Shows a text on the display.",
        "text string at most 80 characters",
        "lines optional list of string default []",
    ):
        assert words in WORDS, words


def test_errors_properties_and_headers_are_shown() -> None:
    for words in ("FormationViolation", "StationOffline", "correlation_id", "ocpp-station-id"):
        assert words in WORDS


def test_every_link_leads_to_a_place_in_the_page() -> None:
    assert len(set(PAGE.ids)) == len(PAGE.ids)
    assert {link.removeprefix("#") for link in PAGE.links} <= set(PAGE.ids)
    assert "type-Kind" in PAGE.ids


def test_what_authors_write_is_text_and_no_html() -> None:
    class Sly(msgspec.Struct):
        """<script>alert(1)</script>"""

        field: int
        """Less < more, and `code`."""

    router = Router("<b>&")

    @router.on("<i>")
    async def handler(call: Call, data: Sly) -> None:
        """<script>alert(2)</script>"""

    words = shown(router).words
    for text in ("<script>alert(1)</script>", "<script>alert(2)</script>", "<b>&: <i>", "Less <"):
        assert text in words
