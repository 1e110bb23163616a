"""A program that listens on a port in a sandbox, for the tests of the proxy. Speaks HTTP by hand, so that it
can also speak it badly, and says byte for byte what it was asked. Runs inside: the standard library only."""

import base64
import contextlib
import hashlib
import json
import socket
import struct
import sys
import threading
import time


def say(word):
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def head(f):
    lines = []
    while (line := f.readline()) not in (b"\r\n", b""):
        lines.append(line.rstrip(b"\r\n"))
    return lines


def body(f, headers):
    """(length, SHA-256) of a body."""
    seen, length = hashlib.sha256(), 0
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        while size := int(f.readline(), 16):
            data = f.read(size)
            length += len(data)
            seen.update(data)
            f.readline()
        f.readline()
        return length, seen.hexdigest()
    left = int(headers.get(b"content-length", b"0"))
    while left and (data := f.read(min(left, 1 << 20))):
        length, left = length + len(data), left - len(data)
        seen.update(data)
    return length, seen.hexdigest()


def answer(c, data, extra=b"", status=b"200 OK"):
    c.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n" % (status, len(data), extra) + data)


def frames(c, f):
    """WebSocket: each message back, until Close."""
    while True:
        first, second = f.read(2)
        size = second & 127
        if size == 126:
            (size,) = struct.unpack(">H", f.read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", f.read(8))
        mask, data = f.read(4), f.read(size)
        key = int.from_bytes(mask * (size // 4 + 1), "big") >> (8 * (4 - size % 4))
        data = (int.from_bytes(data, "big") ^ key).to_bytes(size, "big") if size else b""
        length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size) if size < 65536 else (
            b"\x7f" + struct.pack(">Q", size))
        c.sendall(bytes([first]) + length + data)
        if first & 15 == 8:
            return


def serve(c):
    f = c.makefile("rb")
    request, *lines = head(f)
    headers = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    method, target, _ = request.split(b" ")
    path = target.partition(b"?")[0]
    argument = target.partition(b"?")[2]
    if path == b"/big":
        left, piece = int(argument), bytes(1 << 16)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
        while left > 0:
            c.sendall(piece[:left])
            left -= len(piece)
    elif path == b"/sse":
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(int(argument)):
            c.sendall(b"data: %d\n\n" % number)
            time.sleep(0.1)
    elif path == b"/chunked":
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                  b"5\r\nhello\r\n3;x=y\r\n, y\r\n2\r\nou\r\n0\r\nt: v\r\n\r\n")
    elif path == b"/close":
        c.sendall(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
    elif path == b"/cut":
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    elif path == b"/cut-chunked":
        c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    elif path == b"/say":
        c.sendall(base64.urlsafe_b64decode(argument).replace(b"LONG", b"a" * 70_000))
    elif path == b"/wait":
        say("waiting")
        say("left" if not f.read(1) else "more")
    elif path == b"/refuse":
        answer(c, b"no", status=b"413 Content Too Large")
        time.sleep(0.5)
    elif path == b"/expect":
        length = 0
        if headers.get(b"expect"):
            time.sleep(0.2)
            c.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        length, _ = body(f, headers)
        answer(c, b"%d" % length)
    elif path == b"/upgrade":
        key = headers.get(b"sec-websocket-key", b"") + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key).digest())
        c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        frames(c, f)
    elif path == b"/raw":
        c.sendall(b"HTTP/1.1 101 Yes\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\nearly")
        while data := f.read1(65536):
            c.sendall(data.upper())
        c.sendall(b"end")
    else:
        length, seen = body(f, headers)
        told = {"request": base64.b64encode(request).decode(), "length": length, "sha256": seen,
                "headers": [base64.b64encode(line).decode() for line in lines]}
        data = json.dumps(told).encode() if method != b"HEAD" else b""
        answer(c, data, b"Content-Type: application/json\r\n")
    c.shutdown(socket.SHUT_WR)
    c.settimeout(5)
    with contextlib.suppress(OSError):
        while c.recv(65536):
            pass
    c.close()


def quietly(c):
    try:
        serve(c)
    except (OSError, ValueError):
        say("left")
        c.close()


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=256)
    say("ready")
    while True:
        threading.Thread(target=quietly, args=(listener.accept()[0],), daemon=True).start()
