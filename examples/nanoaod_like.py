"""Practice files: simulated jets in ROOT trees with the column names of CMS NanoAOD, as a stand-in for one's own.

    multiplet simulate jets --out practice/jets --events 3000 --processes QCD,Tbqq
    python examples/nanoaod_like.py practice/jets practice

writes practice/qcd.root and practice/top.root, whose class only the name of the file tells, and practice/new.root with
jets of both, to be classified. An entry is a collision with two jets (FatJet_*), and the particles of both (PFCands_*)
are in one list; FatJetPFCands_jetIdx and _pFCandsIdx say whose is whose, as in the PFNano flavour of NanoAOD.
"""

from __future__ import annotations

import sys
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from multiplet.data.arrow import read_events
from multiplet.data.columns import Columns, concatenate
from multiplet.kinematics import eta, phi, pt

PDG = {"is_charged_hadron": 211, "is_neutral_hadron": 130, "is_photon": 22, "is_electron": 11, "is_muon": 13}


def write(path: Path, jets: Columns, first: int) -> int:
    """Write the jets, two to an entry, and give the number of entries."""
    entries = len(jets) // 2
    jets = jets.take(np.arange(2 * entries))
    v = jets.values
    per_jet = np.diff(jets.offsets)
    per_entry = per_jet.reshape(-1, 2).sum(1)
    start = np.repeat(jets.offsets[:-1].reshape(-1, 2)[:, 0], per_entry)
    code = sum(PDG[name] * v[name].astype(np.int32) for name in PDG)
    signed = np.where(np.isin(code, (11, 13)), -code, code) * np.where(v["charge"] == 0, 1, v["charge"])
    energy = v["jet_energy"].astype(np.float64)
    momentum = v["jet_pt"].astype(np.float64) * np.cosh(v["jet_eta"])
    track = v["charge"] != 0
    candidates = {
        "pt": pt(v["px"], v["py"]),
        "eta": eta(v["px"], v["py"], v["pz"]),
        "phi": phi(v["px"], v["py"]),
        "mass": np.zeros(len(code), np.float32),
        "pdgId": signed,
        "d0": np.where(track, v["d0"] / 10, 0).astype(np.float32),  # CMS writes cm
        "d0Err": np.where(track, v["d0_err"] / 10, 0).astype(np.float32),
        "dz": np.where(track, v["dz"] / 10, 0).astype(np.float32),
        "dzErr": np.where(track, v["dz_err"] / 10, 0).astype(np.float32),
    }
    fat_jets = {
        "pt": v["jet_pt"],
        "eta": v["jet_eta"],
        "phi": v["jet_phi"],
        "mass": np.sqrt(np.clip(energy**2 - momentum**2, 0, None)).astype(np.float32),
        "msoftdrop": v["jet_sdmass"],
    }
    links = {
        "jetIdx": np.tile([0, 1], entries).repeat(per_jet).astype(np.int32),
        "pFCandsIdx": (np.arange(len(code)) - start).astype(np.int32),
    }
    lists = {"FatJet": (np.full(entries, 2), fat_jets), "PFCands": (per_entry, candidates)}
    lists["FatJetPFCands"] = (per_entry, links)
    zipped = {
        name: ak.zip({key: ak.unflatten(value, counts) for key, value in columns.items()})
        for name, (counts, columns) in lists.items()
    }
    single = {
        "run": np.ones(entries, np.uint32),
        "event": np.arange(first, first + entries, dtype=np.uint64),
        "genWeight": np.ones(entries, np.float32),
    }
    with uproot.recreate(path, compression=uproot.LZ4(4)) as file:
        kinds = {name: value.type.content for name, value in zipped.items()} | {n: x.dtype for n, x in single.items()}
        tree = file.mktree("Events", kinds)
        tree.extend(zipped | single)
    return entries


def main(jets: Path, out: Path) -> None:
    """Split the jets of a folder by class, a fifth of them apart as new ones."""
    every = concatenate([read_events(path) for path in sorted(jets.glob("*/*.arrow"))])
    label, classes = every.values["label"], next(c.classes for c in every.schema if c.name == "label")
    new = np.arange(len(every)) % 5 == 0
    first = 1
    for name, chosen in {
        "qcd": ~new & (label == classes.index("QCD")),
        "top": ~new & (label == classes.index("Tbqq")),
        "new": new,
    }.items():
        entries = write(out / f"{name}.root", every.take(np.flatnonzero(chosen)), first)
        print(f"{out / name}.root: {entries} entries, {2 * entries} jets")
        first += entries


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
