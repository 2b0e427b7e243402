"""What is wrong about vendor packs: type checkers find each line that is marked, and no other.

Nobody imports the file.
"""

from typing import Any

from bridge import Call, Client
from bridge.vendors import california_pricing, evbox, evnex, monta
from bridge.vendors import plug_and_charge as pnc


class Right:
    async def authorize(self, call: Call, request: pnc.AuthorizeRequest) -> pnc.AuthorizeResponse:
        return pnc.AuthorizeResponse(pnc.IdTokenInfo("Accepted"))

    async def get_15118_ev_certificate(
        self, call: Call[dict[str, int]], data: pnc.Get15118EVCertificateRequest
    ) -> pnc.Get15118EVCertificateResponse:
        return pnc.Get15118EVCertificateResponse("Failed", str(call.state["x"]))

    async def get_certificate_status(
        self, call: Call, data: pnc.GetCertificateStatusRequest
    ) -> pnc.GetCertificateStatusResponse:
        return pnc.GetCertificateStatusResponse("Failed")

    def sign_certificate(self, call: Call, data: Any) -> pnc.SignCertificateResponse:
        return pnc.SignCertificateResponse("Rejected")


class TakesAnother(Right):
    async def authorize(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self, call: Call, request: pnc.SignCertificateRequest
    ) -> pnc.AuthorizeResponse:
        return pnc.AuthorizeResponse(pnc.IdTokenInfo("Accepted"))


class AnswersAnother(Right):
    async def authorize(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self, call: Call, request: pnc.AuthorizeRequest
    ) -> pnc.SignCertificateResponse:
        return pnc.SignCertificateResponse("Accepted")


class Lacking:
    async def authorize(self, call: Call, request: pnc.AuthorizeRequest) -> pnc.AuthorizeResponse:
        return pnc.AuthorizeResponse(pnc.IdTokenInfo("Perhaps"))  # wrong


class Nothing:
    async def get_net_stat(self, call: Call) -> None: ...

    def status_notification(self, call: Call, data: evbox.StatusNotification) -> None: ...

    async def wifi_status_notification(self, call: Call, data: str) -> None: ...

    async def connection_info(self, call: Call, data: str) -> None: ...


pnc.router(Right(), prefetch=5, timeout=2.5)
pnc.router(Right(), prefetch="5")  # wrong
pnc.router(Right(), threaded=True)  # wrong
pnc.router(TakesAnother())  # wrong
pnc.router(AnswersAnother())  # wrong
pnc.router(Lacking())  # wrong
pnc.router(Right)  # wrong
evnex.router(Nothing())
evbox.router(Nothing())
evnex.router(Right())  # wrong


async def ask(client: Client) -> None:
    root = pnc.InstallCertificateRequest("MORootCertificate", "PEM")
    installed = await pnc.install_certificate(client, "CP001", root, timeout=20)
    if installed.data.status == "Accepted":
        return
    if installed.data.state == "Accepted":  # wrong
        return
    await pnc.install_certificate(client, "CP001", pnc.TriggerMessageResponse("Accepted"))  # wrong
    await pnc.install_certificate(client, "CP001", root, timeout="20")  # wrong
    await pnc.install_certificate("CP001", root)  # wrong
    pnc.InstallCertificateRequest("CSMSRootCertificate", "PEM")  # wrong
    triggered = await pnc.trigger_message(client, "CP001")
    assert triggered.data.status
    await pnc.trigger_message(client, "CP001", {})  # wrong
    price = california_pricing.SetUserPrice("CA1B2C3D4", "$0.12/kWh")
    shown = await california_pricing.set_user_price(client, "CP001", price)
    assert shown.data["whatever"]
    await california_pricing.final_cost(client, "CP001", price)  # wrong
    await monta.state_of_charge(client, "CP001", 80)
    await monta.state_of_charge(client, "CP001", "80")  # wrong
