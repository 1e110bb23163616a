"""The quirk table: every odd shape that providers and local servers are known to speak, with its outcome.

A row is played over a socket through the real litellm. Its `events` are the stream; its `message` is the same
reply as one whole message, played as the answer to a streamed request and to one that is not.
"""

from tests.model.quirks import arguments, calls, counts, ends, frames, shapes, thoughts, unfit, written

ROWS = [
    row
    for part in (shapes, frames, calls, arguments, thoughts, written, ends, counts, unfit)
    for row in part.ROWS
]
