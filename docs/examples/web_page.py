"""A small web page that shows a user's list. It needs only the standard library and DuckDB.

python docs/examples/web_page.py data/warehouse.duckdb 8000     then open http://127.0.0.1:8000/?user_id=42
"""
# ruff: noqa: T201

import sys
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import duckdb

QUESTION = """
    select rank, title, year, rating_hat, because_titles
    from recommendations_named where user_id = $user_id order by rank
"""
PAGE = "<!doctype html><meta charset=utf-8><title>For user {user}</title><h1>For user {user}</h1><ol>{items}</ol>"


def render(warehouse: str, user_id: int) -> str:
    """The page of one user. The file is opened for each request, so a new night is visible at once."""
    with duckdb.connect(warehouse, read_only=True) as connection:
        rows = connection.execute(QUESTION, {"user_id": user_id}).fetchall()
    items = "".join(
        f"<li><b>{escape(title)}</b> {year or ''} · {stars:.1f} stars"
        f"<br><small>because of {escape(', '.join(because)) or 'what is popular'}</small></li>"
        for _, title, year, stars, because in rows
    )
    return PAGE.format(user=user_id, items=items or "<p>no list</p>")


def make_server(warehouse: str, port: int) -> ThreadingHTTPServer:
    """A server on loopback; port 0 means any free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlparse(self.path).query).get("user_id", [""])[0]
            if not asked.isdecimal() or len(asked) > 9:
                self.send_error(400, "give a user, as in /?user_id=42")
                return
            body = render(warehouse, int(asked)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    server = make_server(sys.argv[1], int(sys.argv[2]))
    print(f"http://127.0.0.1:{server.server_port}/?user_id=42")
    server.serve_forever()
