"""The actions that each version of OCPP defines. They tell NotSupported from NotImplemented.

A CALL gets NotSupported if its version defines the action but this gateway does not answer it, and
NotImplemented for any other action (OCPP-J 1.6 §4.2.3, OCPP-J 2.0.1 §4.3). Both directions are
listed, so an action that only a CSMS may send is recognized too.
"""

from typing import Final

from bridge.ocpp import OcppVersion


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_V1_6: Final = _names("""
    Authorize BootNotification CancelReservation ChangeAvailability ChangeConfiguration ClearCache
    ClearChargingProfile DataTransfer DiagnosticsStatusNotification FirmwareStatusNotification
    GetCompositeSchedule GetConfiguration GetDiagnostics GetLocalListVersion Heartbeat MeterValues
    RemoteStartTransaction RemoteStopTransaction ReserveNow Reset SendLocalList SetChargingProfile
    StartTransaction StatusNotification StopTransaction TriggerMessage UnlockConnector
    UpdateFirmware
""") | _names("""
    CertificateSigned DeleteCertificate ExtendedTriggerMessage GetInstalledCertificateIds GetLog
    InstallCertificate LogStatusNotification SecurityEventNotification SignCertificate
    SignedFirmwareStatusNotification SignedUpdateFirmware
""")
"""OCPP 1.6 §4 and §5, and "Improved security for OCPP 1.6-J"."""

_V2_0_1: Final = _names("""
    Authorize BootNotification CancelReservation CertificateSigned ChangeAvailability ClearCache
    ClearChargingProfile ClearDisplayMessage ClearVariableMonitoring ClearedChargingLimit
    CostUpdated CustomerInformation DataTransfer DeleteCertificate FirmwareStatusNotification
    Get15118EVCertificate GetBaseReport GetCertificateStatus GetChargingProfiles
    GetCompositeSchedule GetDisplayMessages GetInstalledCertificateIds GetLocalListVersion GetLog
    GetMonitoringReport GetReport GetTransactionStatus GetVariables Heartbeat InstallCertificate
    LogStatusNotification MeterValues NotifyChargingLimit NotifyCustomerInformation
    NotifyDisplayMessages NotifyEVChargingNeeds NotifyEVChargingSchedule NotifyEvent
    NotifyMonitoringReport NotifyReport PublishFirmware PublishFirmwareStatusNotification
    ReportChargingProfiles RequestStartTransaction RequestStopTransaction ReservationStatusUpdate
    ReserveNow Reset SecurityEventNotification SendLocalList SetChargingProfile SetDisplayMessage
    SetMonitoringBase SetMonitoringLevel SetNetworkProfile SetVariableMonitoring SetVariables
    SignCertificate StatusNotification TransactionEvent TriggerMessage UnlockConnector
    UnpublishFirmware UpdateFirmware
""")
"""OCPP 2.0.1 Part 2 §1. OCPP 2.0 is taken to have the same actions."""

_V2_1: Final = _V2_0_1 | _names("""
    AFRRSignal AdjustPeriodicEventStream BatterySwap ChangeTransactionTariff ClearDERControl
    ClearTariffs ClosePeriodicEventStream GetCertificateChainStatus GetDERControl
    GetPeriodicEventStream GetTariffs NotifyAllowedEnergyTransfer NotifyDERAlarm NotifyDERStartStop
    NotifyPeriodicEventStream NotifyPriorityCharging NotifySettlement NotifyWebPaymentStarted
    OpenPeriodicEventStream PullDynamicScheduleUpdate ReportDERControl RequestBatterySwap
    SetDERControl SetDefaultTariff UpdateDynamicSchedule UsePriorityCharging VatNumberValidation
""")
"""OCPP 2.1 Part 2 §1."""

KNOWN_ACTIONS: Final[dict[str, frozenset[str]]] = {
    OcppVersion.V1_6: _V1_6,
    OcppVersion.V2_0: _V2_0_1,
    OcppVersion.V2_0_1: _V2_0_1,
    OcppVersion.V2_1: _V2_1,
}
"""The actions by version. Their names are case-sensitive."""
