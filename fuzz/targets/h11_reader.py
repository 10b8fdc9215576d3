"""Reads requests with h11, for the target `forwarding`: on standard input a length (4 bytes, big endian) and so many bytes
that came over a connection; on standard output, framed likewise, what h11 makes of them, as JSON."""

import json
import struct
import sys

import h11


def text(data):
    return bytes(data).decode("latin-1")


def fields(headers):
    return [[text(name), text(value)] for name, value in headers]


def read(wire):
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(wire)
    connection.receive_data(b"")
    request, body = {}, b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            request = {
                "method": text(event.method),
                "target": text(event.target),
                "fields": fields(event.headers),
            }
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            behind, _ = connection.trailing_data
            return request | {
                "body": text(body),
                "trailers": fields(event.headers),
                "behind": text(behind),
            }
        else:
            return {"error": f"no request: {event}"}


def main():
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while length := stdin.read(4):
        wire = stdin.read(struct.unpack(">I", length)[0])
        try:
            request = read(wire)
        except h11.RemoteProtocolError as error:
            request = {"error": str(error)}
        answer = json.dumps(request).encode()
        stdout.write(struct.pack(">I", len(answer)) + answer)
        stdout.flush()


main()
