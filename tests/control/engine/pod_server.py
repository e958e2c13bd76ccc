"""What runs in a Pod of the tests of a Dial: it wants a user and a password, and answers in unusual ways.

`python pod_server.py PORT [CERTIFICATE KEY]`
"""

from __future__ import annotations

import base64
import http.server
import json
import socketserver
import ssl
import sys
import time

CREDENTIALS = "Basic " + base64.b64encode(b"rita:s3cret").decode()
LARGE = 9 * 2**20


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/slow":
                time.sleep(30)
            case "/cut":
                self.close_connection = True
            case "/nonsense":
                self.wfile.write(b"220 this is another protocol\r\n\r\n")
                self.close_connection = True
            case "/large":
                self._answer(200, bytes(LARGE))
            case "/moved":
                self._answer(302, b"", Location="/")
            case "/until-the-end":
                self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
                self.close_connection = True
            case "/open":
                self._tell()
            case _ if self.headers.get("Authorization") == CREDENTIALS:
                self._tell()
            case _:
                self._answer(401, b"who are you?", Connection="close")
                self.close_connection = True

    do_POST = do_GET

    def _tell(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        told = {"method": self.command, "path": self.path, "body": body.decode(), "headers": dict(self.headers)}
        self._answer(200, json.dumps(told).encode())

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # that of HTTPServer asks the DNS for the name of this machine


def main(port: str, *pair: str) -> None:
    server = Server(("127.0.0.1", int(port)), Handler)
    if pair:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
