"""Run all checks on a store."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from pointcmt.audit.alignment import MOST, Surface
from pointcmt.audit.descriptors import FEWEST, Descriptor
from pointcmt.audit.duplicates import candidates, confirmed
from pointcmt.audit.findings import Finding, Verdict, counted
from pointcmt.audit.judgment import check_coverage, check_duplicates, check_views
from pointcmt.audit.leaks import check_cameras, check_framing, check_scale
from pointcmt.audit.measurement import Measured, measure
from pointcmt.audit.rendered import Rendered, find_rendered
from pointcmt.console import meter
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import printable

MOST_THREADS = 4
OF_SCENES = (
    "scenes: cameras, scale, framing, cropped frames and duplicates are not checked, since each "
    "scene has its own frames and its own size",
)
CACHED = 4096  # shapes whose points are kept while pairs are compared: up to 100 MB


@dataclass(frozen=True)
class Audit:
    """The result of an audit: what was found, by check, in the order of the checks."""

    rendered: Rendered
    verdict: Verdict

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings; an audited store is clean without any."""
        return self.verdict.findings

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """Return the object that `audit --json` prints."""
        ids = self.rendered.store.shapes
        return {
            "ok": self.ok,
            "shapes": len(self.rendered.shapes),
            "findings": [
                {
                    "kind": finding.kind,
                    "what": finding.what,
                    "shapes": [ids[shape].id for shape in finding.shapes],
                    **finding.facts,
                }
                for finding in self.findings
            ],
            "passed": list(self.verdict.passed),
            "not_checked": list(self.verdict.skipped),
        }

    def describe(self) -> str:
        """Return the result as text."""
        count = counted(len(self.rendered.shapes), self.rendered.unit)
        head = counted(len(self.findings), "finding") if self.findings else "no finding"
        lines = [f"{printable(self.rendered.store.path)}: {head} in {count}"]
        lines += [f"  found        {one.kind}: {one.what}" for one in self.findings]
        lines += [f"  ok           {text}" for text in self.verdict.passed]
        lines += [f"  not checked  {text}" for text in self.verdict.skipped]
        return "\n".join(lines)


def audit(store: ViewStore) -> Audit:
    """Audit a store: leaks of the class, faulty views, duplicates, coverage.

    Each shape is read once; only pairs of similar shapes are read again. Raises StoreError if
    nothing is rendered yet, DamageError if data is lost or damaged.
    """
    rendered = find_rendered(store)
    with meter("auditing", len(rendered.shapes), f"{rendered.unit}s") as progress:
        measured = []
        for one in _measured(rendered):
            measured.append(one)
            progress.advance(1)
    verdict = Verdict()
    if not rendered.is_scenes:
        verdict += check_cameras(rendered)
        verdict += check_scale(rendered, measured)
        verdict += check_framing(rendered, measured)
    verdict += check_views(rendered, measured)
    verdict += _duplicates(rendered, measured)
    verdict += check_coverage(rendered, measured)
    if not rendered.is_scenes and len(np.unique(rendered.labels[rendered.labels >= 0])) < 2:
        text = "leaks of the class: the store has fewer than two classes"
        verdict += Verdict(skipped=(text,))
    return Audit(rendered, verdict)


def _measured(rendered: Rendered) -> Iterator[Measured]:
    """Yield what is measured of each shape, in order, with a few of them at work at a time."""
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    todo = list(zip(rendered.shapes.tolist(), rendered.matched.tolist(), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(todo), 8 * threads):
            some = todo[start : start + 8 * threads]
            yield from pool.map(lambda each: measure(rendered.store, *each), some)


def _duplicates(rendered: Rendered, measured: list[Measured]) -> Verdict:
    """Find shapes that are in the store more than once."""
    if rendered.is_scenes:
        return Verdict(skipped=OF_SCENES)
    described: list[tuple[int, Descriptor]] = [
        (each.shape, each.descriptor) for each in measured if each.descriptor is not None
    ]
    verdict = Verdict()
    if len(described) < len(measured):
        few = counted(len(measured) - len(described), "shape")
        text = f"duplicates: {few} of fewer than {FEWEST} points, too few to compare"
        verdict = Verdict(skipped=(text,))
    if not described:
        return verdict
    shapes, descriptors = zip(*described, strict=True)
    curves = np.stack([each.curve for each in descriptors])
    noise = np.array([each.noise for each in descriptors])
    pairs = [(shapes[a], shapes[b]) for a, b in candidates(curves, noise)]
    surface_of = lru_cache(CACHED)(partial(read_surface, rendered.store))
    with meter("comparing similar shapes", len(pairs), "pairs") as progress:
        found = confirmed(pairs, surface_of, progress.advance)
    return verdict + check_duplicates(rendered, found)


def read_surface(store: ViewStore, shape: int) -> Surface:
    """Read the points and normals of a shape that are compared: at most `alignment.MOST`."""
    points, normals = (store.read(name, shape, slice(0, MOST)) for name in ("points", "normals"))
    return Surface(points, normals)
