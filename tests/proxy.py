"""nginx with the README's recipes, as they stand there but for ports and the password file."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.helpers import ROOT, end

NGINX = shutil.which("nginx", path=os.pathsep.join(["/usr/sbin", *os.environ["PATH"].split(os.pathsep)]))
MISSING = NGINX is None or shutil.which("openssl") is None
WHY = "The recipe needs nginx and openssl; one is not here."
WHOLE = """
pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; {user}
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {recipe}
}}
"""


def recipes(heading: str) -> list[str]:
    """The pieces of nginx's language under a heading of the README."""
    (section,) = re.findall(rf"^## {heading}$(.*?)^## ", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    return re.findall(r"```nginx\n(.*?)```", section, re.DOTALL)


def hashed(password: str) -> str:
    """A line of the password file, made as the README says."""
    told = subprocess.run(["openssl", "passwd", "-apr1", password], capture_output=True, text=True, check=True)
    return f"class:{told.stdout}"


def free() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def proxied(folder: Path, recipe: str, here: Mapping[str, str]) -> Iterator[int]:
    """The port of an nginx with a recipe whose ports of servers are replaced by those that they have `here`.

    The password of the class is woof.
    """
    folder.chmod(0o755)
    port = free()
    (folder / "users").write_text(hashed("woof"))
    of_the_test = {"listen 80;": f"listen 127.0.0.1:{port};", "/etc/nginx/faces.users": str(folder / "users"), **here}
    for written, meant in of_the_test.items():
        assert written in recipe
        recipe = recipe.replace(written, meant)
    user = "user root;" if os.geteuid() == 0 else ""  # the folders of a test are its user's own
    (folder / "conf").write_text(WHOLE.format(folder=folder, recipe=recipe, user=user))
    nginx = subprocess.Popen([str(NGINX), "-p", folder, "-c", folder / "conf", "-g", "daemon off;"])
    try:
        while nginx.poll() is None and not listening(port):
            pass
        assert nginx.poll() is None, (folder / "error.log").read_text()
        yield port
    finally:
        end(nginx)


def listening(port: int) -> bool:
    """Whether somebody answers at a port of this machine, within a tenth of a second."""
    with socket.socket() as probe:
        probe.settimeout(0.1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
