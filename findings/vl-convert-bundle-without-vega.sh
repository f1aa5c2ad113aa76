#!/usr/bin/env bash
# vl-convert-python 1.9.0.post1 (PyPI), Python 3.10 or later; the bundle is run in Node.js
#
# javascript_bundle() makes one script of Vega-Embed, Vega-Lite and Vega for a page without a network. Its docstring
# promises the names `vegaEmbed`, `vegaLite` and `vega` to a snippet, and that the default snippet makes all three
# global.
#
# Expected: window.vega and window.vegaLite are the libraries.
# Seen: both are null, since the modules it bundles have no default export and their default is imported; only
# window.vegaEmbed is there. A page that calls vega.View stops with "Cannot read properties of null". What works is
# vegaEmbed(element, spec, {mode: "vega"}), whose result has the view.
set -euo pipefail
command -v node >/dev/null || { echo "needs node" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check vl-convert-python==1.9.0.post1
"$work/venv/bin/python" - "$work/bundle.js" <<'PY'
import sys

import vl_convert

with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write(vl_convert.javascript_bundle())
PY
cat >"$work/seen.cjs" <<'JS'
globalThis.window = globalThis;
require(process.argv[2]);
const kind = (name) => (window[name] === null ? "null" : typeof window[name]);
const seen = ["vegaEmbed", "vegaLite", "vega"].map((name) => `${name}: ${kind(name)}`).join(", ");
console.log(seen);
process.exit(seen === "vegaEmbed: function, vegaLite: null, vega: null" ? 0 : 1);
JS
node "$work/seen.cjs" "$work/bundle.js"
echo "seen as stated"
