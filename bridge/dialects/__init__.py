"""How gateways write on RabbitMQ. All of it is pure: no connection, no clock but the system's.

dialect    the protocol that dialects implement
native     the bridge's own wire contract
shared     what the dialects have in common whose vendors share a queue
web_ocpp   the plugin rabbitmq-web-ocpp
citrineos  CitrineOS
names, headers, copies, replies   what the dialects are made of
topology   which exchanges, queues and bindings there must be
"""

from bridge.dialects.citrineos import CitrineOs
from bridge.dialects.dialect import Dialect
from bridge.dialects.native import Native
from bridge.dialects.web_ocpp import WebOcpp

__all__ = ["CitrineOs", "Dialect", "Native", "WebOcpp"]
