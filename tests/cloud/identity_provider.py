"""An OpenID Connect provider over a real socket, written from the specification; `twist` makes it lie."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT_ID, SECRET = "vitalwire", "a shared secret"


class IdentityProvider:
    """Signs everybody in as the person of `claims`."""

    def __init__(self, claims: dict[str, Any]) -> None:
        self.claims = claims
        self.twist: Callable[[dict[str, Any]], None] = lambda claims: None
        self.key = RSAKey.generate_key(2048, {"kid": "first"})
        self.signs_with: Any = None
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "first"}
        self.metadata: dict[str, Any] = {}
        self.asked: list[str] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def get(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, str], dict[str, Any]]:
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            found = {"issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize"}
            found |= {"token_endpoint": f"{self.issuer}/token", "jwks_uri": f"{self.issuer}/keys"}
            return 200, {"Set-Cookie": "node=a; Path=/"}, found | self.metadata
        if path == "/keys":
            return 200, {}, dict(KeySet([self.key]).as_dict(private=False))
        if path == "/authorize":
            assert query["response_type"] == "code"
            assert query["code_challenge_method"] == "S256"
            assert "openid" in query["scope"].split()
            code = secrets.token_urlsafe(16)
            self._codes[code] = query
            answer = urlencode({"code": code, "state": query["state"], "iss": self.issuer})
            return 302, {"Location": f"{query['redirect_uri']}?{answer}"}, {}
        return 404, {}, {}

    def post(self, path: str, form: dict[str, str], authorization: str) -> tuple[int, dict[str, str], dict[str, Any]]:
        asked = self._codes.pop(form.get("code", ""), None)  # a code is good once
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        basic = base64.b64encode(f"{CLIENT_ID}:{SECRET.replace(' ', '+')}".encode()).decode()
        plain = base64.b64encode(f"{CLIENT_ID}:{SECRET}".encode()).decode()
        is_good = (
            path == "/token"
            and asked is not None
            and form["grant_type"] == "authorization_code"
            and form["redirect_uri"] == asked["redirect_uri"]
            and challenge.rstrip(b"=").decode() == asked["code_challenge"]
            and authorization in (f"Basic {basic}", f"Basic {plain}")
        )
        if not is_good or asked is None:
            return 400, {}, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims |= self.claims
        self.twist(claims)
        token = jwt.encode(self.header, claims, self.signs_with or self.key, algorithms=[self.header["alg"]])
        return 200, {}, {"access_token": "never used", "token_type": "Bearer", "id_token": token}


def _handler(provider: IdentityProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            self._answer(*provider.get(url.path, {name: one[0] for name, one in parse_qs(url.query).items()}))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: one[0] for name, one in parse_qs(body).items()}
            self._answer(*provider.post(self.path, form, self.headers.get("Authorization", "")))

        def _answer(self, status: int, headers: dict[str, str], content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
