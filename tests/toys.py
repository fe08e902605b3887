"""Toy events for tests: a seeded shower with one, two or three prongs, in the columns of the jet simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from multiplet.data.arrow import write_events
from multiplet.data.columns import Column, Columns

CLASSES = ("one", "two", "three")
_FLAGS = ("is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon")
SCHEMA = (
    *(Column(name, "GeV") for name in ("px", "py", "pz", "energy")),
    *(Column(name, "rad") for name in ("deta", "dphi")),
    *(Column(name, "mm") for name in ("d0", "d0_err", "dz", "dz_err")),
    *(Column(name, dtype="int8") for name in ("charge", *_FLAGS)),
    *(
        Column(name, unit, "event")
        for name, unit in (("jet_pt", "GeV"), ("jet_eta", ""), ("jet_phi", "rad"), ("jet_energy", "GeV"))
    ),
    Column("event_id", level="event", dtype="int64"),
    Column("label", level="event", truth=True, dtype="int16", classes=CLASSES),
)


def toy_jets(events: int, seed: int = 0, least: int = 5, most: int = 40) -> Columns:
    """Toy jets: label = prongs - 1, constituents in descending pT."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, events)
    counts = rng.integers(least, most + 1, events)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    jet = np.repeat(np.arange(events), counts)
    pt_jet, eta_jet, phi_jet = (
        rng.uniform(500, 1000, events),
        rng.uniform(-2, 2, events),
        rng.uniform(-np.pi, np.pi, events),
    )
    share = rng.exponential(size=offsets[-1]) ** 2
    share /= np.bincount(jet, share, events)[jet]
    order = np.lexsort((-share, jet))
    share = share[order]
    prong = rng.integers(0, 10, len(jet)) % (label[jet] + 1)
    angle = rng.uniform(0, 2 * np.pi, events)[jet] + prong * 2 * np.pi / (label[jet] + 1)
    radius = np.where(label[jet] > 0, 0.35, 0.0)
    deta = radius * np.cos(angle) + rng.normal(0, 0.05, len(jet))
    dphi = radius * np.sin(angle) + rng.normal(0, 0.05, len(jet))
    pt, eta, phi = share * pt_jet[jet], eta_jet[jet] + deta, phi_jet[jet] + dphi
    kind = rng.integers(0, 5, len(jet))
    charge = np.where(np.isin(kind, (0, 3, 4)), rng.choice([-1, 1], len(jet)), 0)
    track = charge != 0
    values = {
        "px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta), "energy": pt * np.cosh(eta),
        "deta": deta, "dphi": dphi,
        "d0": rng.standard_t(2, len(jet)) * 0.05 * track, "dz": rng.standard_t(2, len(jet)) * 0.05 * track,
        "d0_err": (0.01 + 0.1 / np.sqrt(pt + 0.1)) * track, "dz_err": (0.03 + 0.1 / np.sqrt(pt + 0.1)) * track,
        "charge": charge, **{flag: kind == n for n, flag in enumerate(_FLAGS)},
        "jet_pt": pt_jet, "jet_eta": eta_jet, "jet_phi": phi_jet,
        "jet_energy": np.bincount(jet, pt * np.cosh(eta), events),
        "event_id": np.arange(events) + 1_000_000 * seed, "label": label,
    }  # fmt: skip
    return Columns(SCHEMA, offsets, {c.name: np.ascontiguousarray(values[c.name], dtype=c.dtype) for c in SCHEMA})


def write_toys(folder: Path, train: int = 300, validation: int = 60, test: int = 60, **shape: int) -> Path:
    """A folder of event files of toy jets, the training split in two files."""
    halves = (train - train // 2, train // 2)
    for number, events in enumerate(halves):
        write_events(folder / "train" / f"{number:05d}.arrow", toy_jets(events, number, **shape), {"source": "toys"})
    write_events(folder / "validation" / "00000.arrow", toy_jets(validation, 2, **shape), {"source": "toys"})
    write_events(folder / "test" / "00000.arrow", toy_jets(test, 3, **shape), {"source": "toys"})
    return folder
