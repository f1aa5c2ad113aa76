"""A report as one HTML file that needs no network."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from lithowatt.report import _templates
from lithowatt.report._checklist import checklist
from lithowatt.report._plots import Plot, plots
from lithowatt.report._results import Results
from lithowatt.report._rows import Row, rows
from lithowatt.report._tables import tables
from lithowatt.report._words import words

#: Results that are longer, in bytes, are compressed in the page: a page of more than 5 MB is
#: refused by many a mail server, and slow on a phone.
MOST_PLAIN = 2_500_000


def page(results: Results) -> str:
    """The HTML text of a report.

    Args:
        results: What it tells.

    Raises:
        ModuleNotFoundError: A package of the extra `report` is missing.
    """
    found = results.as_json()
    sets = rows(results)
    drawn = plots(sets)
    return (
        _templates.environment(visible=True)
        .get_template("page.html.j2")
        .render(
            words=words(found, results.wanted.title),
            plots=drawn,
            tables=tables(found),
            checklist=checklist(found),
            method=method(found),
            footer=footer(found),
            rerun=results.wanted.command,
            css=_templates.source("page.css"),
            js=_templates.source("page.js"),
            vega=_vega(),
            results_json=_results_json(found),
            plots_json=_script_json(_plots_json(drawn, sets)),
        )
    )


def method(found: Mapping[str, Any]) -> list[str]:
    """How the numbers were made, a paragraph each."""
    settings = found["settings"]
    rules = ", ".join(settings["exclude"]) or "nothing"
    confidence = f"{settings['confidence'] * 100:g} %"
    return [
        f"Basis {settings['basis']}: left out by rule: {rules}. No run is left out because it is "
        "far from the others.",
        f"Intervals are {confidence}, by Student's t over runs; of ratios by the delta method on "
        "the logarithm with Satterthwaite's degrees of freedom. A ratio is equivalent where its "
        f"interval lies within ± {settings['margin'] * 100:g} %, lower or higher where it excludes "
        "1, and else not told apart. Over configurations ratios are averaged geometrically.",
        f"Dollars of calls on AWS Lambda are priced as in the region {settings['region']}, with "
        f"prices of {settings['price_date']}, whether or not the data name their region; every "
        "run is billed.",
        *(
            [
                f"Calls elsewhere are priced as given: {settings['price']['vcpu_hour']:g} USD a "
                f"vCPU hour, {settings['price']['gib_hour']:g} USD a GiB hour."
            ]
            if settings["price"] is not None
            else []
        ),
        "The time of the stage is from asking for the workers to the end of the last write "
        "(time_s): a worker's seconds in no phase are in its worker time and on the bill, not in "
        "this time.",
        "Joules that are modelled are each worker's seconds times the watts of its share of a "
        "machine at its load. Their 95 % band holds the model's error, which is mostly common to "
        "one architecture: "
        "intervals over runs do not hold it.",
    ]


def footer(found: Mapping[str, Any]) -> str:
    """Version, time and seed."""
    return (
        f"lithowatt {found['version']}, {found['created']}, seed {found['settings']['seed']}. "
        "The results as JSON are in this file, in the script element lithowatt-results."
    )


#: What would end the element that it stands in, or begin a comment.
_MARKUP = re.compile("[<>&\u2028\u2029\ud800-\udfff]")

#: Halves of a character, as in the name of a file that is not UTF-8: no text can hold them.
HALVES = re.compile("[\ud800-\udfff]")


def escaped(found: re.Match[str]) -> str:
    """A character as JSON can spell it."""
    return f"\\u{ord(found[0]):04x}"


def _script_json(value: Any) -> str:
    """JSON that is safe inside an element of a page."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return _MARKUP.sub(escaped, text)


def _results_json(found: Mapping[str, Any]) -> str:
    text = _script_json(found)
    if len(text) <= MOST_PLAIN:
        return text
    packed = base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
    return json.dumps({"encoding": "gzip+base64", "data": packed})


def results_of(html: str) -> dict[str, Any]:
    """The results in a page that `page` made.

    Raises:
        ValueError: There are none.
    """
    start = re.search('<script type="application/json" id="lithowatt-results">', html)
    if start is None:
        raise ValueError("the page has no element lithowatt-results: expected a report's page")
    value, _ = json.JSONDecoder().raw_decode(html, start.end())
    if isinstance(value, dict) and value.get("encoding") == "gzip+base64":
        value = json.loads(gzip.decompress(base64.b64decode(value["data"])))
    if not isinstance(value, dict):
        raise ValueError("lithowatt-results holds no object: expected a report's results")
    return value


def _plots_json(drawn: Sequence[Plot], sets: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """The plots and their rows; rows as columns, and each text once."""
    texts: dict[str, int] = {}

    def coded(value: Any) -> Any:
        if isinstance(value, list):
            return [coded(one) for one in value]
        return None if value is None else texts.setdefault(value, len(texts))

    packed = {}
    for name, some in sets.items():
        names = [one for one in (some[0] if some else {}) if one != "id"]
        columns = {one: [row[one] for row in some] for one in names}
        textual = [one for one in names if any(_is_text(value) for value in columns[one])]
        for one in textual:
            columns[one] = [coded(value) for value in columns[one]]
        packed[name] = {"length": len(some), "columns": columns, "texts": textual}
    return {
        "plots": [
            {
                "name": one.name,
                "title": one.title,
                "rows": one.rows,
                "mark": "phase" if one.name == "timeline" else "dot",
                "told": one.told,
                "order": one.order,
                "needs": one.needs,
                "more": dict(one.more),
                "spec": _compiled(one.spec()),
            }
            for one in drawn
        ],
        "rows": packed,
        "texts": list(texts),
    }


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, list))


def _compiled(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Vega of a Vega-Lite chart, so that the page needs one library and not two."""
    import vl_convert

    made: dict[str, Any] = vl_convert.vegalite_to_vega(dict(spec))
    return made


@cache
def _vega() -> str:
    """The library that draws, to be put into a page."""
    import vl_convert

    # Its `vega` is documented, but null in vl-convert-python 1.9; vegaEmbed is there.
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
