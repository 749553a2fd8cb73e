"""ClickHouse's engine behind ClickHouse's HTTP interface, for tests.

Current ClickHouse servers come neither as a Debian package nor from PyPI. The
engine does: `chdb` is the server's own code as a library. This file puts an
HTTP server in front of it, so that Trialog talks to it as it talks to a real
one.

Covered: `GET /ping`; a query in the address or the body with data after it;
settings, `param_*`, `database` and `default_format` in the address; user and
password by Basic authorization or `X-ClickHouse-User` and `X-ClickHouse-Key`;
every format in and out; errors with their code in the header
`X-ClickHouse-Exception-Code`; many queries at a time; deduplication tokens.
Answers in a format of rows are streamed, so that neither side holds them; one
that fails after its first rows ends with a broken connection.

Not covered: compression, sessions, progress headers, `wait_end_of_query` (other
formats than those of rows are gathered, these never), external data,
replication and Distributed tables (no Keeper and no second server), quorum
inserts, memory limits over several queries (each has its own), users other
than the one given.

    python clickhouse_http.py PORT DIRECTORY USER PASSWORD
"""

import base64
import json
import re
import sys
import tempfile
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler

import chdb
from quiet_server import QuietServer

# Not settings: what the interface itself understands.
OTHER_ARGUMENTS = {"query", "database", "default_format", "user", "password", "query_id", "wait_end_of_query"}
AUTHENTICATION_FAILED = 516
UNKNOWN_DATABASE = 81
# Formats whose answer is the answers for its parts, one after the other.
OF_ROWS = re.compile(r"\bFORMAT\s+(RowBinary|JSONCompactEachRow)\s*$")


class Refused(Exception):
    def __init__(self, status, code, name, text):
        super().__init__(f"Code: {code}. DB::Exception: {text}. ({name})")
        self.status, self.code = status, code


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    directory, user, password = "", "default", ""

    def do_GET(self):
        if urllib.parse.urlsplit(self.path).path == "/ping":
            self.answer(200, b"Ok.\n")
        else:
            self.do_POST()

    def do_POST(self):
        body = self.body()
        try:
            self.run(body)
        except Refused as refused:
            self.answer(refused.status, str(refused).encode(), refused.code)
        except Exception as error:  # the engine's own
            text = str(error)
            code = re.search(r"Code: (\d+)", text)
            self.answer(500, text.encode(), int(code.group(1)) if code else 1002)

    def body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def run(self, body):
        """Answers a request; nothing is sent yet where it raises an error."""
        arguments = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True))
        self.check_user(arguments)
        query, data = arguments.get("query", ""), body
        if not query:
            query, data = body.decode(), b""
        elif "insert" not in query[:40].lower():
            query, data = query + body.decode(), b""
        connection = chdb.connect(self.directory)
        try:
            database = arguments.get("database", "default")
            try:
                connection.query(f"USE `{database}`")
            except Exception as error:
                raise Refused(404, UNKNOWN_DATABASE, "UNKNOWN_DATABASE", f"Database {database} does not exist") from error
            for name, value in arguments.items():
                if name not in OTHER_ARGUMENTS and not name.startswith("param_"):
                    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
                    connection.query(f"SET {name} = '{quoted}'")
            if data:
                self.answer(200, self.insert(connection, query, data))
                return
            if OF_ROWS.search(query):
                self.stream(connection, query)
                return
            parameters = {name.removeprefix("param_"): value for name, value in arguments.items() if name.startswith("param_")}
            self.answer(200, connection.query(query, arguments.get("default_format", "TabSeparated"), params=parameters or None).bytes())
        finally:
            connection.close()

    def stream(self, connection, query):
        """Sends an answer part by part."""
        parts = connection.send_query(query)
        try:
            # What is wrong with a query shows before its first part.
            part = parts.fetch()
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.send_header("content-type", "application/octet-stream")
            self.end_headers()
            try:
                while part is not None:
                    if content := part.bytes():
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
                    part = parts.fetch()
                self.wfile.write(b"0\r\n\r\n")
            except Exception:  # too late for another status: without its last chunk the answer is none
                self.close_connection = True
        finally:
            parts.close()

    @staticmethod
    def insert(connection, query, data):
        """Through a file: the library's own streaming insertion swallows errors of the last step."""
        found = re.match(r"\s*INSERT\s+INTO\s+(\S+)\s*(?:\(([^)]*)\))?\s+FORMAT\s+(\w+)\s*$", query, re.IGNORECASE)
        if not found:
            raise Refused(400, 62, "SYNTAX_ERROR", "an INSERT with data is `INSERT INTO table (columns) FORMAT name` here")
        table, columns, form = found.groups()
        described = json.loads(connection.query(f"DESCRIBE TABLE {table}", "JSONCompact").bytes())["data"]
        types = {row[0]: row[1] for row in described}
        names = [name.strip() for name in columns.split(",")] if columns else list(types)
        structure = ", ".join(f"{name} {types[name]}" for name in names).replace("\\", "\\\\").replace("'", "\\'")
        with tempfile.NamedTemporaryFile(prefix="insert-") as file:
            file.write(data)
            file.flush()
            connection.query(f"INSERT INTO {table} ({', '.join(names)}) SELECT * FROM file('{file.name}', '{form}', '{structure}')")
        return b""

    def check_user(self, arguments):
        user, password = arguments.get("user", "default"), arguments.get("password", "")
        authorization = self.headers.get("authorization", "")
        if authorization.startswith("Basic "):
            user, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
        user = self.headers.get("x-clickhouse-user", user)
        password = self.headers.get("x-clickhouse-key", password)
        if (user, password) != (self.user, self.password):
            text = f"{user}: Authentication failed: password is incorrect, or there is no user with such name"
            raise Refused(403, AUTHENTICATION_FAILED, "AUTHENTICATION_FAILED", text)

    def answer(self, status, body, code=None):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-type", "text/plain; charset=UTF-8")
        if code is not None:
            self.send_header("x-clickhouse-exception-code", str(code))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    port, Handler.directory, Handler.user, Handler.password = int(sys.argv[1]), *sys.argv[2:5]
    # One connection stays open, so that the engine is not shut down between two requests.
    keep = chdb.connect(Handler.directory)
    server = QuietServer(("127.0.0.1", port), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    threading.current_thread().name = "accept"
    server.serve_forever()
    keep.close()


if __name__ == "__main__":
    main()
