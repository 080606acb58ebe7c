"""The page that a clerk archives in place of copies: one HTML file, to print or to file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = (
    "body{font:12pt/1.5 sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#0b0c0c}"
    "table{border-collapse:collapse;width:100%}th,td{border:1px solid #888;padding:.3rem .5rem;"
    "text-align:left;vertical-align:top;overflow-wrap:anywhere}code{font-size:9pt}"
)
_LASTS = {
    "decision": "a decision taken 已作出的决定",
    "entitlement": "an entitlement that goes on 持续享有的待遇",
}


def format_sheet(
    origin: str,
    office: str,
    service: str,
    case: str,
    acts: Sequence[Mapping[str, Any]],
    files: Mapping[str, str],
) -> str:
    """The page about a case: `acts` as in cases.ndjson, `files` names and SHA-256 of evidence."""
    facts = {
        "Ledger 账本": origin,
        "Office 机关": office,
        "Service 事项": service,
        "Case 办件": case,
    }
    parts = [
        '<!doctype html>\n<html lang="zh-Hans"><head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">",
        f"<title>{escape(case)}</title><style>{_STYLE}</style></head><body>",
        "<h1>In place of copies 代替复印件存档</h1><table>",
        *(f"<tr><th>{name}</th><td>{escape(said)}</td></tr>" for name, said in facts.items()),
        "</table>",
    ]
    for act in acts:
        parts += _act(act)
    if files:
        parts.append("<h2>Evidence on file 存档的证据文件</h2><table>")
        parts += [
            f"<tr><td>{escape(name)}</td><td><code>{digest}</code></td></tr>"
            for name, digest in files.items()
        ]
        parts.append("</table>")
    parts.append(
        "<p>Each file is checked by <code>certledger verify FILE</code> with the ledger's trust "
        "file, also when the ledger is gone. "
        "每个证据文件可用 <code>certledger verify</code> 离线核验。</p>"
        "</body></html>\n"
    )
    return "\n".join(parts)


def _act(act: Mapping[str, Any]) -> list[str]:
    time = escape(str(act["time"]))
    number = f"<p>Act 记录号: <code>{escape(str(act['act']))}</code></p>"
    if act["kind"] == "ended":
        return [f"<h2>Ended 终止采信: {time}</h2>", number]
    rows = [
        f"<tr><td>{escape(str(one['certificate_number']))}</td>"
        f"<td>{escape(str(one['certificate_type_code']))}</td>"
        f"<td>{escape(str(one['issuing_authority_code']))}</td>"
        f"<td>{one['certificate_version']}</td></tr>"
        for one in act["certificates"]
    ]
    return [
        f"<h2>Relied 采信: {time}</h2>",
        f"<p>{_LASTS[act['lasts']]}; for 用途: {escape(str(act['use_for']))}; "
        f"checkpoint of {act['tree_size']} entries 检查点</p>",
        "<table><tr><th>Certificate 证照</th><th>Type 类型</th><th>Issuer 颁发机关</th>"
        "<th>Version 版本</th></tr>",
        *rows,
        "</table>",
        number,
    ]
