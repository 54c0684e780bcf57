"""nginx with recipes of the guide, as they stand there but for ports and the places of files."""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import end
from tests.recipes import block, meant, said

NGINX = shutil.which("nginx", path=os.pathsep.join(["/usr/sbin", *os.environ["PATH"].split(os.pathsep)]))
MISSING = NGINX is None or shutil.which("openssl") is None
WHY = "The recipe needs nginx and openssl; one is not here."
RECIPE, CERTIFICATE = (block("class", "4. One address, with TLS", place) for place in (3, 2))
OURS = "/etc/letsencrypt/live/faces.school.example"
WHOLE = """
pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; {user}
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {recipe}
}}
"""


@dataclass(frozen=True)
class Proxy:
    """An nginx that is there: its port with TLS, the one without, and its certificate."""

    port: int
    plain: int
    certificate: Path

    def trust(self) -> ssl.SSLContext:
        """Who knows the certificate, and no other."""
        return ssl.create_default_context(cafile=self.certificate)


def free() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def proxied(folder: Path, recipe: str, here: Mapping[str, str]) -> Iterator[Proxy]:
    """An nginx with a recipe whose ports of servers, and whatever else, are replaced by what they are `here`.

    Its certificate is the one that the guide makes to try.
    """
    folder.chmod(0o755)
    made = Proxy(free(), free(), folder / "faces.pem")
    said(CERTIFICATE.replace("/etc/nginx/", f"{folder}/"), folder)
    of_the_test = {
        "listen 80;": f"listen 127.0.0.1:{made.plain};", "listen 443 ssl;": f"listen 127.0.0.1:{made.port} ssl;",
        f"{OURS}/fullchain.pem": str(made.certificate), f"{OURS}/privkey.pem": f"{folder}/faces.key",
    }  # fmt: skip
    user = "user root;" if os.geteuid() == 0 else ""  # the folders of a test are its user's own
    whole = WHOLE.format(folder=folder, recipe=meant(recipe, {**of_the_test, **here}), user=user)
    (folder / "conf").write_text(whole)
    nginx = subprocess.Popen([str(NGINX), "-p", folder, "-c", folder / "conf", "-g", "daemon off;"])
    try:
        while nginx.poll() is None and not listening(made.port):
            pass
        assert nginx.poll() is None, (folder / "error.log").read_text()
        yield made
    finally:
        end(nginx)


def listening(port: int) -> bool:
    """Whether somebody answers at a port of this machine, within a tenth of a second."""
    with socket.socket() as probe:
        probe.settimeout(0.1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
