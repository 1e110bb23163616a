"""/docs: the interface as one plain page, from the OpenAPI document. No script, nothing from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:13px ui-monospace,monospace;background:#8881;padding:.1em .3em}pre{padding:.7em;overflow:auto}
b{display:inline-block;min-width:4.5em}section{border-top:1px solid #8884;padding:.6em 0}"""


def page(document: dict[str, Any]) -> str:
    """The page as HTML."""
    sections = [
        _operation(path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    info = document["info"]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])} API</title>"
        f"<style>{STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info['description'])}</p><p>For programs: <a href=/openapi.json>openapi.json</a>.</p>"
        + "".join(sections)
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{escape(p['name'])}</code> ({escape(p['in'])}) {escape(p.get('description', ''))}</li>"
        for p in operation.get("parameters", [])
    )
    body = ", ".join(operation.get("requestBody", {}).get("content", {}))
    return (
        f"<section id={escape(operation['operationId'])}><b>{method.upper()}</b><code>{escape(path)}</code>"
        f"<p>{escape(operation.get('description') or operation.get('summary') or '')}</p>"
        + (f"<ul>{parameters}</ul>" if parameters else "")
        + (f"<p>Body: <code>{escape(body)}</code></p>" if body else "")
        + "</section>"
    )
