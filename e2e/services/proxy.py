"""A proxy with faults, between Trialog and a service on loopback."""

import http.client
import random
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler

from .quiet_server import QuietServer


class TcpProxy:
    """Passes bytes on; `delay` seconds late, and `paused` or `refusing` where asked."""

    def __init__(self, target_port, port=0):
        self.target_port, self.delay, self.refusing = target_port, 0.0, False
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(128)
        self.port = self.listener.getsockname()[1]
        self.open = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port), timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for pair in ((client, server), (server, client)):
                self.open.add(pair[0])
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source, target):
        try:
            while data := source.recv(65_536):
                if self.delay:
                    time.sleep(self.delay)
                target.sendall(data)
        except OSError:
            pass
        finally:
            self.open.discard(source)
            for end in (source, target):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()

    def cut(self):
        """Ends every connection."""
        for end in list(self.open):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()
        self.cut()


class HttpProxy:
    """Passes requests to ClickHouse on, and knows which of them insert."""

    def __init__(self, target_port):
        self.refusing_inserts, self.losing_answers, self.delay = False, 0.0, 0.0
        self.n_refused = self.n_lost = 0
        self.random = random.Random(7)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.body()
                is_insert = "INSERT" in self.path[:400] and "RowBinary" in self.path
                if is_insert and proxy.refusing_inserts:
                    proxy.n_refused += 1
                    return self.answer(503, b"out of order")
                if proxy.delay:
                    time.sleep(proxy.delay)
                upstream = http.client.HTTPConnection("127.0.0.1", target_port, timeout=120)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "transfer-encoding", "content-length")}
                try:
                    upstream.request("POST", self.path, body=body, headers=headers)
                    response = upstream.getresponse()
                    text = response.read()
                except OSError:
                    self.close_connection = True
                    return None
                finally:
                    upstream.close()
                if is_insert and proxy.random.random() < proxy.losing_answers:
                    proxy.n_lost += 1
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return None
                return self.answer(response.status, text, response.headers.get("x-clickhouse-exception-code"))

            def body(self):
                if "chunked" not in self.headers.get("transfer-encoding", ""):
                    return self.rfile.read(int(self.headers.get("content-length") or 0))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def answer(self, status, text, code=None):
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                if code:
                    self.send_header("x-clickhouse-exception-code", code)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
