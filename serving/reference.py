"""The page that documents the API: made here from the OpenAPI document, so it needs no other address.

(The pages that FastAPI brings load their scripts from a public CDN and stay blank without internet.) Each
route stands with its parameters, a request filled in with the document's examples and a button that sends it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Document = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem } h3 { margin: 0; font-size: 1.05rem; font-weight: 600 }
article { border: 1px solid color-mix(in srgb, currentColor 25%, transparent); border-radius: .5rem;
  padding: .8rem 1rem; margin: 1rem 0 }
code, pre, textarea, input { font: .9rem/1.45 ui-monospace, monospace }
.method { display: inline-block; min-width: 3.2rem; font-weight: 700 }
label { display: grid; grid-template-columns: 9rem 1fr; gap: .2rem 1rem; margin: .4rem 0 }
label small { grid-column: 2; opacity: .75 }
input, textarea { box-sizing: border-box; width: 100%; padding: .3rem .4rem }
textarea { min-height: 6.5rem } button { padding: .3rem 1rem; margin: .3rem 0 }
pre { overflow: auto; max-height: 22rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0 0;
  padding: .6rem; background: color-mix(in srgb, currentColor 8%, transparent) } pre:empty { display: none }
"""
_SCRIPT = """
for (const form of document.forms) form.addEventListener("submit", async event => {
  event.preventDefault();
  const out = form.querySelector("output pre"), query = new URLSearchParams();
  let path = form.dataset.path;
  for (const field of form.querySelectorAll("input")) {
    if (field.dataset.in === "path") path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
    else if (field.value !== "") query.set(field.name, field.value);
  }
  const options = {method: form.dataset.method, headers: {}}, body = form.querySelector("textarea");
  if (body) { options.body = body.value; options.headers["Content-Type"] = "application/json" }
  out.textContent = "…";
  try {
    const answer = await fetch("." + path + (query.size ? "?" + query : ""), options);
    out.textContent = `${answer.status} ${answer.statusText}\\n`;
    for (const [name, value] of answer.headers)
      if (name.startsWith("x-wordloom")) out.append(`${name}: ${value}\\n`);
    out.append("\\n");
    if ((answer.headers.get("content-type") || "").includes("json"))
      out.append(JSON.stringify(await answer.json(), null, 1));
    else {
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part; !(part = await reader.read()).done;) out.append(part.value);
    }
  } catch (error) { out.textContent = String(error) }
});
"""


def _source(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


# Nothing but this page's own script and style runs, and it talks to nobody but this server.
POLICY = (
    f"default-src 'none'; script-src {_source(_SCRIPT)}; style-src {_source(_STYLE)}; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(document: Document) -> str:
    """The HTML page for an OpenAPI document. Addresses are relative, so it works wherever it is mounted."""
    info = document["info"]
    sections: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = operation.get("tags", ["service"])[0]
            sections.setdefault(tag, []).append("".join(_operation(document, path, method, operation)))
    body = "".join(f"<h2>{escape(tag.capitalize())}</h2>{''.join(each)}" for tag, each in sections.items())
    title = escape(f"{info['title']} {info['version']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body><main><h1>{title}</h1>"
        f"<p>{escape(info.get('description', ''))}</p>"
        '<p>The machine-readable form is <a href="openapi.json">openapi.json</a>.</p>'
        f"{body}</main><script>{_SCRIPT}</script></body></html>"
    )


def request_body(document: Document, operation: Document) -> dict[str, Any] | None:
    """The example of an operation's JSON body, None where it takes none."""
    if "requestBody" not in operation:
        return None
    schema = _resolved(document, operation["requestBody"]["content"]["application/json"]["schema"])
    return dict(schema["examples"][0])


def parameters(operation: Document) -> Iterator[tuple[str, str, Any, str]]:
    """Place (`path`, `query`), name, example (or None) and description of an operation's parameters."""
    for each in operation.get("parameters", []):
        given = each["schema"].get("examples", [None])[0]
        yield each["in"], each["name"], given, each.get("description", "")


def _operation(document: Document, path: str, method: str, operation: Document) -> Iterator[str]:
    verb = method.upper()
    yield f"<article><h3><span class=method>{verb}</span> <code>{escape(path)}</code></h3>"
    yield f"<p><strong>{escape(operation.get('summary', ''))}.</strong> "
    yield f"{escape(operation.get('description', ''))}</p>"
    yield f'<form data-method="{verb}" data-path="{escape(path)}">'
    for place, name, example, description in parameters(operation):
        value = "" if example is None else escape(str(example))
        yield f"<label><code>{escape(name)}</code>"
        yield f'<input name="{escape(name)}" data-in="{place}" value="{value}">'
        yield f"<small>{escape(description)}</small></label>" if description else "</label>"
    body = request_body(document, operation)
    if body is not None:
        text = escape(json.dumps(body, indent=1, ensure_ascii=False))
        yield f'<textarea aria-label="JSON body" spellcheck="false">{text}</textarea>'
        yield from _fields(document, operation)
    yield '<button>Send</button><output aria-live="polite"><pre></pre></output></form></article>'


def _fields(document: Document, operation: Document) -> Iterator[str]:
    schema = _resolved(document, operation["requestBody"]["content"]["application/json"]["schema"])
    yield "<ul>"
    for name, field in schema["properties"].items():
        says = field.get("description", "")
        default = f" Default: {json.dumps(field['default'])}." if "default" in field else ""
        yield f"<li><code>{escape(name)}</code> {escape(says + default)}</li>"
    yield "</ul>"


def _resolved(document: Document, schema: Document) -> Document:
    reference: str | None = schema.get("$ref")
    if reference is None:
        return schema
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)
