"""The OCPP-J WebSocket gateway: the reference for gateways in other languages.

server          accepts connections and holds the stations that are connected
settings        what can be set
station_socket  a WebSocket connection that cannot use more than its share of memory
connection      one station's connection at work
conversation    the same connection as OCPP-J sees it: messages in, decisions out
local_answers   the CALLs that are answered without the bridge
rivals          peers that replace each other as one station
boot            how a station that boots is answered
actions         the actions that each version of OCPP defines
handshake       what the opening HTTP request says
passwords       the passwords of stations

Only `server` and `station_socket` need the extra `gateway`.
"""
