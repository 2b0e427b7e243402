"""What travels, as a document for others: AsyncAPI with a JSON Schema of each vendor message.

messages    routers and station messages → what is sent and answered, as Python types
types       Python types → JSON Schemas; `docstrings` has what their authors wrote about fields
envelope    what the wire contract adds: payloads, AMQP properties, headers, error replies
asyncapi    all of it as one document
page        the document as a page of HTML
compare     two JSON Schemas → how the second one differs, and whether it takes less or more
changes     two documents → what changes for stations and gateways, and what breaks them
"""
