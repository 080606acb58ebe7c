"""fsck, catalogues: the files that are kept are those whose roots the log holds."""

from __future__ import annotations

from ledger.catalogue import MAX_CATALOGUE, parse_catalogue
from ledger.errors import LedgerError
from ledger.postgres.packing import unpack
from ledger.postgres.scan import Scan
from ledger.registry import Registry

from .fsck_report import Report


def check_catalogues(scan: Scan, report: Report, registry: Registry) -> None:
    """Every published version's file is there, and of the root that was published."""
    wanted = {
        (name, item["version"]): item["root"]
        for name, record in registry.records.items()
        if name.startswith("catalogue/")
        for item in record["value"]["versions"]
    }
    for name, version, packed in scan.stream("scan_catalogues"):
        place = f"{name} version {version}"
        report.count("catalogues")
        root = wanted.pop((name, version), None)
        if root is None:
            report.add("catalogue", place, "a file, and no version of that number was published")
            continue
        try:
            data = unpack(packed)
            found = parse_catalogue(data[: MAX_CATALOGUE + 1])
        except (LedgerError, ValueError):
            report.add("catalogue", place, "its file cannot be read")
            continue
        if (found.record_name, found.version, found.root.hex()) != (name, version, root):
            report.add("catalogue", place, "its file is not the one that was published")
    for name, version in wanted:
        report.add("catalogue", f"{name} version {version}", "its file is missing")
