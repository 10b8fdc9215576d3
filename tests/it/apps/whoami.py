"""An application that is not ours: it answers who it believes the caller is, and what it was sent.

WSGI folds header names (case, and '-' to '_'), which is what spoofed names aim at.
"""

import json
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server


def application(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
        return [b"the application failed"]
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    seen = {name: value for name, value in environ.items() if name.startswith("HTTP_")}
    answer = json.dumps({
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"],
        "query": environ["QUERY_STRING"],
        "headers": seen,
        "body": body.decode(),
    }).encode()
    start_response("200 OK", [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(answer))),
    ])
    return [answer]


class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass


server = make_server("127.0.0.1", 0, application, handler_class=Quiet)
print(server.server_port, flush=True)
sys.stdout.close()
server.serve_forever()
