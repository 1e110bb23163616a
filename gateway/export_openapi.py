"""Prints the OpenAPI document: `python -m gateway.export_openapi > docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gateway.app import create_app
from runtime.settings import Settings


def main() -> None:
    """Print the document."""
    made = create_app(Settings(home=Path("/"))).openapi()
    sys.stdout.write(json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
