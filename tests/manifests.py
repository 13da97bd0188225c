"""Schemas of KubeRay's kinds for checking manifests offline: its CRDs, made strict.

A CRD's structural schema lets unknown fields pass (the server prunes them silently); here they are refused,
which finds every misspelt field. `python -m tests.manifests FOLDER_OF_CRDS` writes tests/data/kuberay.
"""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path
from typing import Any

import yaml

STORED = Path(__file__).resolve().parent / "data" / "kuberay"
KINDS = {"RayCluster": "rayclusters", "RayJob": "rayjobs", "RayService": "rayservices"}


def crd_schema(text: str) -> Any:
    """The strict JSON schema of version v1 of the kind that a CRD's YAML defines."""
    versions = yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]
    (found,) = [version for version in versions if version["name"] == "v1"]
    return strict(found["schema"]["openAPIV3Schema"])


def strict(schema: Any) -> Any:
    """A structural schema without its prose, in which an unknown field is an error."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {}
    for key, value in schema.items():
        if key == "properties":
            made[key] = {name: strict(each) for name, each in value.items()}
        elif not key.startswith("x-kubernetes-") and not (key == "description" and isinstance(value, str)):
            made[key] = strict(value)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and not open_ended:
        made["additionalProperties"] = False
    return made


def stored(kind: str) -> Any:
    """The schema of a kind as it is kept beside the tests."""
    with lzma.open(STORED / f"{kind}.json.xz") as stream:
        return json.load(stream)


def main(crds: Path) -> None:
    for kind, plural in KINDS.items():
        schema = crd_schema((crds / f"ray.io_{plural}.yaml").read_text(encoding="utf-8"))
        content = json.dumps(schema, separators=(",", ":")).encode()
        (STORED / f"{kind}.json.xz").write_bytes(lzma.compress(content, preset=9))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
