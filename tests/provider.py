"""A small OpenID provider for tests: it signs in whoever it is told to, by the real steps, and checks what is asked."""

import base64
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.helpers import listening

CLIENT, SECRET = "faces", "between us"


class Provider:
    """`user` are the claims of who signs in next; `left` counts who signed out. `forged` takes a foreign key."""

    def __init__(self) -> None:
        self.user: dict[str, Any] = {}
        self.left, self.forged, self.address = 0, False, ""
        self.key, self.foreign = (RSAKey.generate_key(2048, parameters={"kid": "one"}) for _ in range(2))
        self.asked: dict[str, dict[str, str]] = {}  # code -> what the authorization was asked with

    def about(self, request: Request) -> Response:
        """What the provider says of itself."""
        ends = {"authorization": "authorize", "token": "token", "userinfo": "userinfo", "end_session": "leave"}
        return JSONResponse(
            {
                "issuer": self.address, "jwks_uri": f"{self.address}/keys", "response_types_supported": ["code"],
                "id_token_signing_alg_values_supported": ["RS256"], "code_challenge_methods_supported": ["S256"],
            } | {f"{name}_endpoint": f"{self.address}/{path}" for name, path in ends.items()}
        )  # fmt: skip

    def authorize(self, request: Request) -> Response:
        """Sign in the user, without asking them."""
        asked = dict(request.query_params)
        assert (asked["client_id"], asked["response_type"]) == (CLIENT, "code")
        assert "openid" in asked["scope"].split()
        code = f"code{len(self.asked)}"
        self.asked[code] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")

    async def token(self, request: Request) -> Response:
        """An id token for a code, once."""
        told = await request.form()
        asked = self.asked.pop(str(told["code"]))
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        proof = base64.urlsafe_b64encode(hashlib.sha256(str(told["code_verifier"]).encode()).digest()).decode()
        if request.headers["authorization"] != f"Basic {basic}" or proof.rstrip("=") != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_client"}, 401)
        now = int(time.time())
        claims = {"iss": self.address, "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": asked["nonce"], **self.user}
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.foreign if self.forged else self.key)
        return JSONResponse({"access_token": "a", "token_type": "Bearer", "expires_in": 60, "id_token": signed})

    def keys(self, request: Request) -> Response:
        """What tokens are checked with."""
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    def leave(self, request: Request) -> Response:
        """Sign out."""
        self.left += 1
        return RedirectResponse(request.query_params["post_logout_redirect_uri"])


@contextmanager
def provided() -> Iterator[Provider]:
    """A provider that listens on this machine."""
    provider = Provider()
    routes = [
        Route("/.well-known/openid-configuration", provider.about), Route("/authorize", provider.authorize),
        Route("/token", provider.token, methods=["POST"]), Route("/keys", provider.keys),
        Route("/leave", provider.leave),
    ]  # fmt: skip
    with listening(Starlette(routes=routes)) as provider.address:
        yield provider
