"""How gateways write on RabbitMQ: one pure module each.

dialect    the protocol that they implement
native     the bridge's own wire contract
shared     what the others have in common, whose vendors share a queue
web_ocpp   the plugin rabbitmq-web-ocpp
citrineos  CitrineOS
names, headers, copies, replies   what the wire contract is made of
topology   which exchanges, queues and bindings there must be
"""

from bridge.dialects.citrineos import CitrineOs
from bridge.dialects.dialect import Dialect
from bridge.dialects.native import Native
from bridge.dialects.web_ocpp import WebOcpp

__all__ = ["CitrineOs", "Dialect", "Native", "WebOcpp"]
