"""The egress proxy: what a sandbox with the network `allowlist` may reach, and the process that lets it out.

`policy` says what may be reached, `addresses` where names may lead, `dialing` connects, `client_hello` reads
whom a TLS client greets, `dialogue` speaks with a program inside, `forwarding` passes plain HTTP on,
`way` accepts one sandbox's connections, `service` finds the sandboxes.
"""
