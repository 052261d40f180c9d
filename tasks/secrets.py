"""What is a secret in a text, and the text without it."""

import os
import re

_SECRET = re.compile(r"(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS|_KEY)$", re.IGNORECASE)


def redact(text: str) -> str:
    """Returns `text` without passwords: neither those in addresses nor the values of environment variables that are
    named like secrets."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET.search(name):
            text = text.replace(value, "***")
    return re.sub(r"(?<=://)(?<!embedded://)[^/@\s]*@", "***@", text)
