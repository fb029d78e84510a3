"""A small S3 server for tests: one bucket in memory, with multipart uploads, listings and faults on demand."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

__all__ = ["ACCESS_KEY", "SECRET", "FakeS3"]

ACCESS_KEY, SECRET = "AKIATESTTESTTESTTEST", "do-not-log-this-secret"
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class FakeS3(ThreadingHTTPServer):
    """Serves one bucket; a context manager.

    Attributes:
        objects: key to bytes and time of the last write.
        failing: answers every request by 503 while true; ``denying`` by 403.
        counts: requests by method.
    """

    daemon_threads = True

    def __init__(self, bucket: str = "bucket", host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), _Handler)
        self.bucket = bucket
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.counts: Counter[str] = Counter()
        self.failing = False
        self.denying = False
        self.url = f"http://{host}:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a client library finds server and credentials by."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
        }

    def age(self, seconds: float) -> None:
        """Let all objects have been written ``seconds`` earlier."""
        self.objects = {key: (data, written - seconds) for key, (data, written) in self.objects.items()}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeS3

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""

    def _prepare(self) -> tuple[str, dict[str, list[str]], bytes] | None:
        """Key, parameters and body of a request; None where it has been answered already."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.counts[self.command] += 1
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        signed = f"Credential={ACCESS_KEY}/" in self.headers.get("Authorization", "")
        if self.server.failing:
            self._error(503, "SlowDown")
        elif self.server.denying or not signed:
            self._error(403, "AccessDenied")
        elif bucket != self.server.bucket:
            self._error(404, "NoSuchBucket")
        else:
            return key, parse_qs(parts.query, keep_blank_values=True), body
        return None

    def do_GET(self) -> None:
        asked = self._prepare()
        if asked is None:
            return
        key, query, _ = asked
        if not key:
            self._list(query.get("prefix", [""])[0])
            return
        self._object(key)

    def do_HEAD(self) -> None:
        asked = self._prepare()
        if asked is not None:
            self._object(asked[0])

    def do_PUT(self) -> None:
        asked = self._prepare()
        if asked is None:
            return
        key, query, body = asked
        if "uploadId" in query:
            self.server.parts[query["uploadId"][0]][int(query["partNumber"][0])] = body
        else:
            self.server.objects[key] = (body, time.time())
        self._answer(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})

    def do_POST(self) -> None:
        asked = self._prepare()
        if asked is None:
            return
        key, query, body = asked
        if "uploads" in query:
            upload = f"upload{len(self.server.parts)}"
            self.server.parts[upload] = {}
            self._xml(f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>")
        elif "uploadId" in query:
            whole = b"".join(part for _, part in sorted(self.server.parts.pop(query["uploadId"][0]).items()))
            self.server.objects[key] = (whole, time.time())
            self._xml("<CompleteMultipartUploadResult><ETag>&quot;x&quot;</ETag></CompleteMultipartUploadResult>")
        else:  # ?delete
            names = re.findall(r"<Key>(.*?)</Key>", body.decode())
            for name in names:
                self.server.objects.pop(name, None)
            done = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
            self._xml(f"<DeleteResult {_NAMESPACE}>{done}</DeleteResult>")

    def do_DELETE(self) -> None:
        asked = self._prepare()
        if asked is not None:
            self.server.objects.pop(asked[0], None)
            self._answer(204, b"", {})

    def _object(self, key: str) -> None:
        if key not in self.server.objects:
            self._error(404, "NoSuchKey")
            return
        data, written = self.server.objects[key]
        headers = {"Last-Modified": formatdate(written, usegmt=True), "ETag": f'"{hashlib.md5(data).hexdigest()}"'}
        self._answer(200, data, headers)

    def _list(self, prefix: str) -> None:
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>&quot;x&quot;</ETag>"
            f"<LastModified>{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(written))}</LastModified></Contents>"
            for key, (data, written) in sorted(self.server.objects.items())
            if key.startswith(prefix)
        )
        self._xml(f"<ListBucketResult {_NAMESPACE}><IsTruncated>false</IsTruncated>{found}</ListBucketResult>")

    def _xml(self, text: str) -> None:
        self._answer(200, f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode(), {"Content-Type": "application/xml"})

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode(), {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
