"""Checks manifests against the schemas that Kubernetes publishes, refusing fields that they do not know.

Usage: check.py DIRECTORY. Needs the Python package `kubernetes-validate`. Custom resources are left to check.mjs.
"""

import json
import pathlib
import sys

import kubernetes_validate

# The oldest cluster that is supported, and the newest whose schemas are known here.
VERSIONS = ["1.30", "1.33"]
CUSTOM = "monitoring.coreos.com/"

checked, failed = 0, 0
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    manifest = json.loads(path.read_text())
    if manifest["apiVersion"].startswith(CUSTOM):
        continue
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except Exception as error:
            failed += 1
            print(f"{path.name} ({version}): {error}", file=sys.stderr)
    checked += 1
print(f"manifests: {checked} checked against Kubernetes {' and '.join(VERSIONS)}, {failed} problems")
sys.exit(1 if failed or not checked else 0)
