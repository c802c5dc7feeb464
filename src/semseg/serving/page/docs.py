"""The OpenAPI description as a page that people read: a section for each path, with what it takes and answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Interface of {title}</title>
<link rel="icon" href="/page/icon.svg">
<link rel="stylesheet" href="/page/page.css">
</head>
<body class="docs">
<header class="top"><div class="brand"><h1>Interface</h1><p class="model">{title} {version}. {summary}</p></div>
<nav aria-label="Pages"><a href="/">Try it</a><a href="/openapi.json">openapi.json</a></nav></header>
<main>
{sections}
</main>
</body>
</html>
"""


def docs_html(description: str) -> str:
    """Return the page for an OpenAPI description, its JSON text. All texts in it are escaped."""
    api = json.loads(description)
    operations = [
        (path, method, operation)
        for path, item in api["paths"].items()
        for method, operation in item.items()
        if isinstance(operation, dict)
    ]
    sections = "\n".join("\n".join(_section(api, *each)) for each in operations)
    about = {name: escape(str(api["info"][name])) for name in ("title", "version", "summary")}
    return _FRAME.format(sections=sections, **about)


def _section(api: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    """The lines of one operation."""
    name = escape(operation["operationId"])
    yield f'<section class="card" aria-labelledby="{name}">'
    yield f'<h2 id="{name}"><span class="method">{method.upper()}</span> <code>{escape(path)}</code></h2>'
    yield f"<p>{escape(operation['summary'])}</p>"
    if "description" in operation:
        yield f"<p>{_prose(operation['description'])}</p>"
    if "parameters" in operation:
        yield "<h3>Headers</h3><dl>"
        for parameter in operation["parameters"]:
            yield f"<dt><code>{escape(parameter['name'])}</code></dt><dd>{_prose(parameter['description'])}</dd>"
        yield "</dl>"
    if "requestBody" in operation:
        yield f"<h3>Body</h3><p>{_prose(operation['requestBody']['description'])}</p>"
        yield f"<p>{', '.join(f'<code>{escape(kind)}</code>' for kind in operation['requestBody']['content'])}</p>"
    yield "<h3>Responses</h3><dl>"
    for status, response in operation["responses"].items():
        found = _resolved(api, response)
        yield f'<dt><span class="status">{escape(status)}</span></dt><dd>{_prose(found["description"])}'
        if status == "200":
            yield from _contents(api, found.get("content", {}))
        yield "</dd>"
    yield "</dl></section>"


def _contents(api: Mapping[str, Any], contents: Mapping[str, Any]) -> Iterator[str]:
    """The media types of a response, with their parameters."""
    if not contents:
        return
    yield "<dl>"
    for kind, content in contents.items():
        schema = _resolved(api, content["schema"])
        parameters = content.get("x-accept-parameters", {})
        words = "".join(f" <code>{escape(name)}={escape(_values(given))}</code>" for name, given in parameters.items())
        fields = ", ".join(f"<code>{escape(name)}</code>" for name in schema.get("properties", {}))
        text = _prose(schema.get("description", "")) or (f"An object with {fields}." if fields else "")
        yield f"<dt><code>{escape(kind)}</code>{words}</dt><dd>{text}</dd>"
    yield "</dl>"


def _values(schema: Mapping[str, Any]) -> str:
    """The values of a parameter, as the README writes them."""
    if "enum" in schema:
        return "|".join(map(str, schema["enum"]))
    if "minimum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}"
    return str(schema.get("pattern", "..."))


def _resolved(api: Mapping[str, Any], item: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference within the description stands for; anything else is returned as it is."""
    if "$ref" not in item:
        return item
    place: Any = api
    for key in item["$ref"].removeprefix("#/").split("/"):
        place = place[key]
    found: Mapping[str, Any] = place
    return found


def _prose(text: str) -> str:
    """Escaped text, in which what is between backquotes is code."""
    return "".join(
        f"<code>{escape(part)}</code>" if number % 2 else escape(part) for number, part in enumerate(text.split("`"))
    )
