"""The gateway's side of the wire contract: a small OCPP-J WebSocket gateway, the reference for others.

link              the bridge, for gateways in Python
actions           the actions that each version knows
local_answers     what is answered without the bridge
conversation      one connection: messages in, decisions out
handshake         who connects
passwords         security profile 1
station           one connection, at work
server            all of them; the only module that needs `websockets`
"""
