"""A network camera as a process of its own: `python mjpeg_server.py PORT FRAMES_PER_SECOND JPEG`, MJPEG over HTTP."""

from __future__ import annotations

import http.server
import sys
import time
from pathlib import Path


class Camera(http.server.BaseHTTPRequestHandler):
    """Sends the same picture for ever."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        data = Path(sys.argv[3]).read_bytes()
        head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
        try:
            while True:
                self.wfile.write(head + data + b"\r\n")
                time.sleep(1 / float(sys.argv[2]))
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Camera) as server:
        server.daemon_threads = True
        print("ready", flush=True)
        server.serve_forever()
