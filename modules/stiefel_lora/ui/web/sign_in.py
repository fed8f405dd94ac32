"""Page with a message, and the form for the token."""

from __future__ import annotations

__all__ = ["sign_in_page"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Stiefel LoRA</title>
<style>
:root {{ color-scheme: light dark; font-family: system-ui, sans-serif; }}
body {{ max-width: 30rem; margin: 15vh auto 0; padding: 0 1rem; line-height: 1.5; }}
input, button {{ font: inherit; padding: .5rem; margin-top: .5rem; }}
input {{ width: 100%; box-sizing: border-box; }}
</style>
</head>
<body>
<h1>Stiefel LoRA</h1>
<p>{message}</p>
{form}
</body>
</html>
"""
_FORM = """<form method="post" action="/sign-in">
<label>Token <input name="token" type="password" autocomplete="current-password"
autofocus required></label>
<button>Sign in</button>
</form>"""


def sign_in_page(message: str, *, form: bool) -> str:
    """Return a page without data of the server.

    Args:
        message: message as HTML.
        form: whether to show the form for the token.
    """
    return _PAGE.format(message=message, form=_FORM if form else "")
