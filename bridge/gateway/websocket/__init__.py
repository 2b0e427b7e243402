"""The OCPP-J WebSocket gateway: the reference for gateways in other languages.

server          listens, holds the stations that are connected, and drains
settings        what can be set
opening         the opening handshake of a connection; doorway: TLS before it
arrivals        stations that come or go all at once take turns
admission       who is let in
station_socket  a connection that cannot use more than its share of memory
frames          the frames of a WebSocket, from bytes and to bytes
connection      one station's connection at work
conversation    the same connection as OCPP-J sees it: messages in, decisions out
local_answers   the CALLs that are answered without the bridge
rivals          peers that replace each other as one station
boot            how a station that boots is answered
actions         the actions that each version of OCPP defines
handshake       what the opening HTTP request says
passwords       the passwords of stations

`server`, `opening`, `admission`, `station_socket` and `frames` need the extra `gateway`.
"""
