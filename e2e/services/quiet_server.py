"""An HTTP server for many clients, some of which are killed."""

from http.server import ThreadingHTTPServer


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        """A client that was killed does not wait for its answer."""
